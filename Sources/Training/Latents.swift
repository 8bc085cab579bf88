import Compiler
import Datasets
import Distributions
import Graph
import Likelihood

extension Run {
    private func latentModel() throws -> any LatentModel {
        guard let model = model as? any LatentModel else {
            throw UsageError("\(name) has no latents: nothing is encoded or decoded by it")
        }
        return model
    }

    /// The latents of examples, `[rows, latents]`.
    /// - Throws: `UsageError` for examples that the model cannot take, that lie outside of what it has a density for, or whose latents
    ///   are not finite.
    public func encode(_ examples: Examples) throws -> HostArray {
        let model = try latentModel()
        try validate(examples, of: "encode")
        let (count, batch) = (examples.count, min(model.evaluationBatch, examples.count))
        let context = model.makeContext()
        // A map of a part of the line gives every number a latent; where there is no density is known by log p alone.
        let hasSupport = model.domain.isContinuous && model.metric.isLogLikelihood
        let program = try load(
            compile([model.encode(x, context)] + (hasSupport ? [model.evaluation(x, context)] : [])),
            maximumBatch: batch, for: "an encoding")
        var result: [Float] = []
        var outside: [Int] = []
        for start in stride(from: 0, to: count, by: batch) {
            let range = start..<min(count, start + batch)
            var feeds = examples[range].feeds
            feeds.merge(RandomSource.feeds(seed: settings.seed, examples: Array(range))) { a, _ in a }
            let found = try program.run(feeds.known(to: program), batch: range.count)
            result += found[0].floats
            if hasSupport { outside += zip(range, found[1].floats).filter { $1 == .infinity }.map(\.0) }
        }
        if let first = outside.first {
            throw UsageError(
                "encode: \(outside.count) of \(count) rows lie outside of what the model has a density for, the first is row \(first); leave them out"
            )
        }
        if let bad = result.firstIndex(where: { !$0.isFinite }) {
            throw UsageError(
                "encode: row \(bad / model.latentCount) has no finite latents: it lies outside what float32 can map")
        }
        return HostArray(result, shape: [count, model.latentCount])
    }

    /// Examples `[rows, variables]` of latents `[rows, latents]`.
    /// - Throws: `UsageError` for latents of another width, or where no finite example has such latents.
    public func decode(_ latents: HostArray, _ options: SamplingOptions = SamplingOptions()) throws -> HostArray {
        let model = try latentModel()
        let width = model.latentCount
        guard latents.shape.count == 2, latents.shape[0] > 0, latents.shape[1] == width else {
            throw UsageError("decode: expected latents of one row or more [rows, \(width)], found \(latents.shape)")
        }
        if let bad = latents.firstBeyondFloat32 {
            throw UsageError(
                "decode: row \(bad / width), column \(bad % width) holds \(latents.element(bad)); expected a finite latent within float32"
            )
        }
        try requireConditions(options, count: latents.shape[0])
        let batch = min(256, latents.shape[0])
        let stages = try model.decodingStages(model.makeContext())
        let sampler = try Sampler(self, Drawing(stages), options, maximumBatch: batch)
        var result: [Float] = []
        for start in stride(from: 0, to: latents.shape[0], by: batch) {
            let part = latents.rows(start..<min(latents.shape[0], start + batch))
            let range = start..<start + part.shape[0]
            var feeds = RandomSource.feeds(seed: options.seed, examples: Array(range))
            feeds.merge(conditionFeeds(Array(range), options)) { $1 }
            feeds[Drawing.previous] = HostArray(part.floats, shape: part.shape)
            result += try sampler.run(feeds, batch: part.shape[0]).examples.floats
        }
        if let bad = result.firstIndex(where: { !$0.isFinite }) {
            throw UsageError(
                "decode: row \(bad / examples.count) has no finite example: its latents lie outside what float32 can invert"
            )
        }
        return HostArray(result, shape: [latents.shape[0], examples.count])
    }

    /// `count` examples on the straight line between the latents of two, ends included.
    /// - Parameter options: the class, and the features of one row, that are given for all of them.
    public func interpolate(
        _ a: HostArray, _ b: HostArray, count: Int, _ options: SamplingOptions = SamplingOptions()
    ) throws -> HostArray {
        let width = examples.count
        guard a.count == width, b.count == width, count >= 2 else {
            throw UsageError("interpolate: expected two examples of \(width) variables and a count of 2 or more")
        }
        var (both, options) = (Examples(HostArray(a.floats + b.floats, shape: [2, width])), options)
        both.labels = options.label.map { [Int32](repeating: Int32($0), count: 2) }
        both.features = options.features?.rows([0, 0])
        let ends = try encode(both).floats
        let latents = ends.count / 2
        var line: [Float] = []
        for step in 0..<count {
            let share = Float(step) / Float(count - 1)
            for i in 0..<latents { line.append(ends[i] * (1 - share) + ends[latents + i] * share) }
        }
        options.features = options.features?.rows([Int](repeating: 0, count: count))
        return try decode(HostArray(line, shape: [count, latents]), options)
    }
}
