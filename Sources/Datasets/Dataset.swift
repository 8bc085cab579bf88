import Distributions
import Graph
import Likelihood

/// Examples for training, for choosing when to stop, and for the figure that is reported.
public struct Dataset: Sendable {
    /// The part of a data set that a row belongs to.
    public enum Split: String, Sendable, CaseIterable { case train, valid, test }

    public let name: String
    public var train: HostArray
    public var valid: HostArray
    public var test: HostArray
    /// The shape of an example before it was flattened: `[channels, height, width]` for images.
    public let exampleShape: [Int]
    /// The classes of the examples, where they are known.
    public var labels: Labels?
    /// Real numbers beside each example, `[examples, features]`, where there are such.
    public var features: [Split: HostArray]?
    /// The weight of each example in sums over a set, with mean 1 in the training set; all are 1 if not given.
    public var weights: [Split: [Float]]?

    /// int32, one for each example.
    public struct Labels: Sendable {
        public let train: [Int32]
        public let valid: [Int32]
        public let test: [Int32]
        public let classes: Int

        public init(train: [Int32], valid: [Int32], test: [Int32], classes: Int) {
            (self.train, self.valid, self.test, self.classes) = (train, valid, test, classes)
        }
    }

    /// The CRC-64 of the test examples as they lie in memory, in hexadecimal digits: which data a figure is of.
    public var testChecksum: String {
        let sum = test.withUnsafeBytes { Checksum.extended(0, by: $0[...]) }
        return String(decoding: Checksum.text(sum), as: UTF8.self)
    }

    /// The examples of a split with what is known beside each.
    public subscript(split: Split) -> Examples {
        let labels = labels.map { labels in
            switch split {
            case .train: labels.train
            case .valid: labels.valid
            case .test: labels.test
            }
        }
        return Examples(examples(split), labels: labels, features: features?[split], weights: weights?[split])
    }

    /// - Throws: `FileError` unless the three are `[examples, variables]` of equal width.
    public init(
        name: String, train: HostArray, valid: HostArray, test: HostArray, exampleShape: [Int]? = nil
    ) throws(FileError) {
        (self.train, self.valid, self.test) = (
            Examples(train).rows, Examples(valid).rows, Examples(test).rows
        )
        self.name = name
        self.exampleShape = exampleShape ?? [self.train.shape.last ?? 0]
        for (split, array) in [("train", self.train), ("valid", self.valid), ("test", self.test)] {
            guard array.shape.count == 2, array.shape[0] > 0, array.shape[1] > 0 else {
                throw FileError(
                    name, "the \(split) set is \(array.shape); expected [examples, variables] with one example or more")
            }
            guard array.shape[1] == self.exampleShape.reduce(1, *) else {
                throw FileError(
                    name,
                    "the \(split) set has \(array.shape[1]) variables; expected \(self.exampleShape)"
                        + (exampleShape == nil ? " as in the train set" : "")
                )
            }
        }
    }

    public var variableCount: Int { train.shape[1] }

    /// The examples of one part, `[rows, variables]`.
    public func examples(_ split: Split) -> HostArray {
        switch split {
        case .train: train
        case .valid: valid
        case .test: test
        }
    }

    /// One archive with the arrays `train`, `valid` and `test`, and whatever else.
    public init(
        npz path: String, name: String, exampleShape: [Int]? = nil, source: String
    ) throws(FileError) {
        guard Files.exists(path) else { throw FileError(path, "is not there. \(source)") }
        let arrays = try NumPy.read(npz: path, ["train", "valid", "test"])
        try self.init(
            name: name, train: arrays["train"]!, valid: arrays["valid"]!, test: arrays["test"]!,
            exampleShape: exampleShape)
    }
}
