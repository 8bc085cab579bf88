import Compiler
import Datasets
import Graph
import Likelihood

#if canImport(Glibc)
    import Glibc
#endif

extension LikelihoodModel {
    /// Trains the model on arrays: starting weights, a first batch for layers that fit themselves to it, shuffled epochs, validation
    /// after each, the best weights kept.
    ///
    ///     let run = try MADE([16]) { $0.hidden = [64] }.fit(Examples(rows)) { $0.epochs = 5 }
    ///     print(try run.evaluate(Examples(others)).mean)
    ///
    /// - Parameters:
    ///   - valid: what decides which weights are the best; a tenth of `train`, chosen by the seed, if not given.
    ///   - device: `nil` takes a GPU, or else the CPU.
    ///   - folder: where everything is saved as training goes on; a folder of an earlier call with the same data and settings that was
    ///     stopped is gone on with, to the same bits. `nil` keeps the weights in memory alone.
    ///   - change: the optimizer, the length, the seed.
    ///   - report: called after every step and epoch; `Trainer.printProgress` writes a line an epoch to standard error.
    /// - Returns: the model with its best weights on the device.
    /// - Throws: `UsageError` for settings or examples that do not fit, `DependencyLeak` for a model that reads what it must not,
    ///   `NonFiniteError` where training leaves the finite numbers, `FileError` for a folder with weights that it would overwrite, or
    ///   into which another process writes.
    public func fit(
        _ train: Examples, valid: Examples? = nil, on device: (any Device)? = nil, folder: String? = nil,
        _ change: (inout TrainingSettings) -> Void = { _ in },
        report: @escaping (Trainer.ProgressReport) -> Void = Trainer.printProgress
    ) throws -> Run {
        var settings = TrainingSettings()
        change(&settings)
        let run = try Run(self, settings: settings, device: device)
        try run.validate(train, of: "fit, the training examples")
        let (fitted, held) = try valid.map { (train, $0) } ?? train.split(share: 0.1, seed: settings.seed)
        try run.validate(held, of: "fit, the validation examples")
        // A model that reads ahead would train to a meaningless figure.
        _ = try prove()
        try run.initialize(fitted)
        let trainer = try Trainer(run, train: fitted, valid: held, folder: nil, report: report)
        let runFolder = folder.map { RunFolder($0) }
        if let runFolder {
            try Files.makeFolder(runFolder.path)
            trainer.keep(in: runFolder, lock: try RunLock(runFolder))
            guard runFolder.hasState || !Files.exists(runFolder.model) else {
                throw FileError(
                    runFolder.model,
                    "is there without the state of a run to go on with; choose another folder, or load it")
            }
        }
        if runFolder?.hasState == true {
            for line in try trainer.restore() { Trainer.printLine(line) }
        } else {
            try trainer.start()
        }
        _ = try trainer.train()
        try trainer.useBest()
        return run
    }

    /// The model with weights from a file.
    /// - Throws: `FileError` for a file that is not of this model.
    public func load(_ path: String, on device: (any Device)? = nil) throws -> Run {
        let run = try Run(self, device: device)
        try run.load(weights: path)
        return run
    }
}

extension Examples {
    /// Most of the examples, and a share of them chosen by the seed, at least one.
    func split(share: Double, seed: UInt64) throws -> (Examples, Examples) {
        guard count >= 2 else {
            throw UsageError("fit: expected two examples or more, or validation examples beside one, found \(count)")
        }
        let order = HostRandom(seed: seed, stream: "validation").permutation(count, step: 0)
        let held = max(1, Int(Double(count) * share))
        return (self[order.dropFirst(held).sorted()], self[order.prefix(held).sorted()])
    }
}

extension Trainer {
    /// A line for every epoch on standard error.
    public static func printProgress(_ report: ProgressReport) {
        guard let validation = report.validation else { return }
        let digits = { (value: Double) in (value * 1000).rounded() / 1000 }
        printLine(
            "epoch \(report.epoch)/\(report.epochs): train \(digits(report.loss)), valid \(digits(validation)) \(report.unit)"
        )
    }

    static func printLine(_ line: String) {
        _ = Array((line + "\n").utf8).withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
