import Bijectors
import CPU
import Datasets
import Distributions
import FoundationEssentials
import Graph
import Likelihood
import Models
import Testing

@testable import Training

/// Flows of angles and of heavy-tailed data: short fits against what is known, and the settings that make such flows.
@Suite struct CircleAndTailTests {
    private func fit(_ flow: Flow, _ rows: HostArray, epochs: Int, rate: Double = 0.01) throws -> Run {
        try flow.fit(
            Examples(rows), on: CPUDevice(threads: 2),
            {
                $0.epochs = epochs
                $0.batch = 100
                $0.learningRate = rate
            }, report: { _ in })
    }

    /// The quantiles of a density on an interval, in an order that mixes them: as good as draws, without their noise.
    private func quantiles(_ count: Int, from low: Double, to high: Double, _ density: (Double) -> Double) -> [Float] {
        let cells = 20_000
        let width = (high - low) / Double(cells)
        let masses: [Double] = (0..<cells).map { density(low + (Double($0) + 0.5) * width) }
        let total: Double = masses.reduce(0.0) { $0 + $1 }
        var (found, cell, below): ([Float], Int, Double) = ([], 0, 0)
        for i in 0..<count {
            let wanted = (Double(i) + 0.5) / Double(count) * total
            while below + masses[cell] < wanted { (below, cell) = (below + masses[cell], cell + 1) }
            found.append(Float(low + (Double(cell) + (wanted - below) / masses[cell]) * width))
        }
        // A step that shares no divisor with the count visits all.
        return (0..<count).map { found[$0 * 389 % count] }
    }

    // MARK: fits

    /// A von Mises density whose mode lies where the numbers of the circle end: log p = k cos x - log(2 pi I0(k)), which is
    /// log I0(4) = 2.424973 with its mean of cos x 0.863523 (Abramowitz and Stegun 1964, table 9.8).
    @Test func aCircleIsFitted() throws {
        let rows = HostArray(
            quantiles(2000, from: 0, to: 2 * .pi) { Math.exp(4 * (Math.cos($0) - 1)) }, shape: [2000, 1])
        let flow = Flow.autoregressive(
            variables: 1, layers: 2, hidden: [], transformer: SplineTransformer(bins: 2),
            circular: CircularColumns([0], CircularSplineTransformer(bins: 8)))
        let run = try fit(flow, rows, epochs: 30, rate: 0.03)
        let entropy: Double = Math.log(2 * Double.pi) + 2.424973 - 4 * 0.863523
        let found = try run.evaluate(Examples(rows)).mean
        #expect(abs(found - entropy) < 0.03, "\(found) nats, the density's own are \(entropy)")
        // A uniform density has log(2 pi).
        #expect(Math.log(2 * Double.pi) - found > 0.8)
        let drawn = try run.sample(count: 2000).examples.doubles
        #expect(drawn.allSatisfy { $0 >= 0 && $0 <= 2 * .pi + 1e-6 })
        let sum: Double = drawn.reduce(0.0) { $0 + Math.cos($1) }
        let resultant = sum / 2000
        #expect(abs(resultant - 0.863523) < 0.04, "\(resultant)")
    }

    /// Outliers cost a flow of straight tails less under Student's t than under a normal.
    @Test func heavyTailsWantTheirBase() throws {
        // The quantiles of Student's t of 2 degrees of freedom, for which there is a formula.
        let count = 2000
        let column = (0..<count).map { (i: Int) -> Float in
            let u = (Double(i) + 0.5) / Double(count)
            let scale: Double = (2 * u * (1 - u)).squareRoot()
            return Float((2 * u - 1) / scale)
        }
        var cells: [Float] = []
        for i in 0..<count { cells += [column[i * 389 % count], column[i * 1013 % count]] }
        let rows = HostArray(cells, shape: [count, 2])
        func nats(_ base: (any Distribution)?) throws -> Double {
            let flow = Flow.maf(variables: 2, layers: 2, hidden: [16], base: base)
            return try fit(flow, rows, epochs: 10).evaluate(Examples(rows)).mean
        }
        let (normal, fixed) = (try nats(nil), try nats(StudentT(degrees: 2)))
        let student = StudentT([2], degrees: 20)
        let flow = Flow.maf(variables: 2, layers: 2, hidden: [16], base: student)
        let run = try fit(flow, rows, epochs: 20, rate: 0.02)
        let trained = try run.evaluate(Examples(rows)).mean
        #expect(normal - fixed > 0.2, "\(normal) under a normal, \(fixed) under Student's t")
        #expect(normal - trained > 0.2, "\(normal) under a normal, \(trained) under a trained Student's t")
        let parameter = try #require(student.logDegrees)
        let logs = try #require(try run.states.get(parameter)).floats
        let degrees = logs.map { Math.exp(Double($0)) }
        #expect(degrees.allSatisfy { $0 < 10 }, "\(degrees)")
    }

    // MARK: settings

    private func configuration(_ assignments: [String]) throws -> RunConfiguration {
        var result = RunConfiguration(Flow.VectorSettings { $0.hidden = [8] })
        for assignment in assignments { try result.set(assignment) }
        return result
    }

    private func flow(_ assignments: String...) throws -> Flow {
        let settings = try configuration(assignments)
        try settings.validate([3])
        return try #require(settings.model.makeModel([3], seed: 1) as? Flow)
    }

    @Test func settingsMakeBases() throws {
        #expect(try flow().base.name == "standard normal")
        #expect(try flow("flow=nice").base.name == "standard logistic")
        for name in ["realnvp", "coupling", "maf", "autoregressive", "iaf", "planar", "radial"] {
            #expect(try flow("flow=\(name)").base is DiagonalNormal)
            #expect(try flow("flow=\(name)", "base=logistic").base is Logistic)
            #expect((try flow("flow=\(name)", "base=student:2.5").base as? StudentT)?.degrees == 2.5)
        }
        let product = try #require(
            try flow("flow=coupling", "transformer=spline:4", "circular=0,2", "period=360", "base=student:3").base
                as? ProductDistribution)
        #expect(product.counts == [1, 1, 1])
        #expect((product.components[0] as? CircularUniform)?.period == 360)
        #expect(product.components[1] is StudentT)
        let one = try flow("flow=autoregressive", "transformer=spline:4", "circular=1")
        #expect((one.base as? ProductDistribution)?.components.map(\.name).first == "standard normal")
        #expect(try one.prove().hasPrefix("proved: 5 conditioners"))
        let all = try flow("flow=autoregressive", "transformer=spline:4", "circular=0,1,2")
        #expect((all.base as? ProductDistribution)?.counts == [3])
        #expect(try flow("flow=autoregressive", "transformer=spline:4", "circular=").base is DiagonalNormal)
    }

    @Test func wrongSettingsAreRefused() throws {
        let wrong: [([String], String)] = [
            (
                ["base=cauchy"],
                "base: expected normal, conditional, logistic or student:DEGREES from 0.2 to 1e6, found “cauchy”"
            ), (["base=conditional"], "base: conditional reads classes or features, and the examples have none"),
            (["base=student"], "found “student”"), (["base=student:0.1"], "found “student:0.1”"),
            (["base=student:nan"], "found “student:nan”"), (["base=normal:2"], "found “normal:2”"),
            (["flow=nice", "base=student:3"], "base: nice has its own"),
            (["flow=maf-mog", "base=logistic"], "base: maf-mog has its own"),
            (["period=0"], "period: expected 1e-6 to 1e6, found 0"),
            (["flow=planar", "circular=0"], "circular: expected flow=coupling or autoregressive"),
            (["flow=coupling", "circular=0"], "transformer=spline:BINS, found flow=coupling with transformer=affine"),
            (["flow=coupling", "transformer=spline:4", "circular=3"], "circular: expected columns 0 to 2, found 3"),
            (["flow=coupling", "transformer=spline:4", "circular=-1"], "circular: expected columns 0 to 2, found -1"),
            (["flow=coupling", "transformer=spline:4", "circular=1,1"], "circular: a column is named twice"),
            (
                ["flow=coupling", "transformer=spline:4", "circular=1", "normalization=actNorm"],
                "circular: normalization=actNorm scales columns"
            ),
            (["flow=coupling", "transformer=spline:4", "circular=1", "levels=4"], "circular: expected real numbers"),
        ]
        for (assignments, text) in wrong {
            let error = #expect(throws: UsageError.self) { try configuration(assignments).validate([3]) }
            let description = error?.description ?? ""
            #expect(description.contains(text) && !description.contains("\n"), "\(assignments): \(description)")
        }
    }

    /// What does nothing beside the other settings is refused where a run begins, and validated where one goes on.
    @Test func settingsWithoutEffectAreRefused() throws {
        let idle: [([String], String)] = [
            (
                ["flow=maf", "transformer=spline:8"],
                "transformer=spline:8 has no effect with flow=maf; set flow=autoregressive or coupling"
            ),
            (["flow=planar"], "hidden=8 has no effect with flow=planar"),
            (["flow=radial", "hidden=8,9"], "hidden=8,9 has no effect with flow=radial"),
            (["flow=maf", "components=3"], "components=3 has no effect with flow=maf; set flow=maf-mog"),
            (["alpha=0.05"], "alpha=0.05 has no effect on real numbers"),
            (["flow=coupling", "splineBound=4"], "splineBound=4.0 has no effect without splines"),
            (["period=360"], "period=360.0 has no effect without columns on circles; set circular"),
        ]
        func check(_ assignments: [String]) throws {
            let settings = try configuration(assignments)
            try settings.validate([3])
            try #require(settings.model as? Flow.VectorSettings).requireEffects()
        }
        for (assignments, text) in idle {
            let error = #expect(throws: UsageError.self) { try check(assignments) }
            #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
            try configuration(assignments).validate([3])
        }
        for assignments in [
            [], ["flow=coupling", "transformer=spline:8", "splineBound=4"], ["flow=maf-mog", "components=3"],
            ["levels=256", "alpha=0.05"], ["flow=coupling", "transformer=spline:8", "circular=1", "period=360"],
            ["flow=planar", "hidden=512,512"],
        ] {
            #expect(throws: Never.self, "\(assignments)") { try check(assignments) }
        }
    }

    /// A run from before there were circles and tails is what it was.
    @Test func olderRunsAreWhatTheyWere() throws {
        let written = try configuration(["flow=coupling", "transformer=spline:6"])
        let newer = ["base", "circular", "period"]
        let fields = try written.fields()
        #expect(newer.allSatisfy { fields[$0] != nil })
        let text = try JSONEncoder().encode(OlderRun(settings: fields.filter { !newer.contains($0.key) }))
        let older = try JSONDecoder().decode(StoredRun.self, from: text)
            .configuration(preset: RunConfiguration(Flow.VectorSettings()), path: "config.json")
        #expect(older.model as? Flow.VectorSettings == written.model as? Flow.VectorSettings)
    }
}

/// A `config.json` of some settings.
private struct OlderRun: Encodable {
    let experiment = "made"
    let settings: [String: JSON]
    let examples = ExampleShape([3])
    let dataFolder = "data"
    let device = "cpu"
}
