import Graph

/// Examples for training, for choosing when to stop, and for the figure that is reported.
public struct Dataset: Sendable {
    public enum Split: String, Sendable, CaseIterable { case train, valid, test }

    public let name: String
    public let train: HostArray
    public let valid: HostArray
    public let test: HostArray
    /// The shape of an example before it was flattened: `[channels, height, width]` for images.
    public let exampleShape: [Int]
    /// The classes of the examples, where they are known.
    public var labels: Labels?

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

    public func labels(_ split: Split) -> HostArray? {
        guard let labels else { return nil }
        return switch split {
        case .train: HostArray(labels.train)
        case .valid: HostArray(labels.valid)
        case .test: HostArray(labels.test)
        }
    }

    /// - Throws: `FileError` unless the three are `[examples, variables]` of equal width.
    public init(
        name: String, train: HostArray, valid: HostArray, test: HostArray, exampleShape: [Int]? = nil
    ) throws(FileError) {
        let flat = { (array: HostArray) in
            array.shape.count > 2 ? array.reshaped([array.shape[0], array.shape.dropFirst().reduce(1, *)]) : array
        }
        (self.train, self.valid, self.test) = (flat(train), flat(valid), flat(test))
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

    public func examples(_ split: Split) -> HostArray {
        switch split {
        case .train: train
        case .valid: valid
        case .test: test
        }
    }

    /// One archive with the arrays `train`, `valid` and `test`.
    public init(
        npz path: String, name: String, exampleShape: [Int]? = nil, source: String
    ) throws(FileError) {
        guard Files.exists(path) else { throw FileError(path, "is not there. \(source)") }
        let arrays = try NumPy.read(npz: path)
        guard let train = arrays["train"], let valid = arrays["valid"], let test = arrays["test"] else {
            throw FileError(
                path, "expected the arrays train, valid and test, found \(arrays.keys.sorted().joined(separator: ", "))"
            )
        }
        try self.init(name: name, train: train, valid: valid, test: test, exampleShape: exampleShape)
    }
}

/// What the variables of a model may be.
public enum VariableDomain: Sendable {
    case binary
    /// 0 ..< levels.
    case levels(Int)
    case real

    /// How many values a variable may take, where it is discrete.
    public var levelCount: Int? {
        switch self {
        case .binary: 2
        case .levels(let n): n
        case .real: nil
        }
    }

    /// Refuses examples with a value outside, naming the first.
    public func require(_ examples: HostArray, of name: String) throws(FileError) {
        let values = examples.doubles
        let width = max(1, examples.shape.last ?? 1)
        let bad: Int?
        let expected: String
        switch self {
        case .binary: (bad, expected) = (values.firstIndex { $0 != 0 && $0 != 1 }, "0 or 1; binarize it first")
        case .levels(let n):
            (bad, expected) = (
                values.firstIndex { !($0 >= 0 && $0 < Double(n) && $0 == $0.rounded()) },
                "a whole number from 0 to \(n - 1)"
            )
        case .real: (bad, expected) = (values.firstIndex { !$0.isFinite }, "a finite number")
        }
        if let bad {
            throw FileError(
                name, "row \(bad / width), column \(bad % width) holds \(values[bad]); expected \(expected)")
        }
    }
}

extension Dataset {
    /// Refuses values that a model of such variables cannot have seen.
    public func require(_ domain: VariableDomain) throws(FileError) {
        for split in Split.allCases { try domain.require(examples(split), of: "\(name), \(split)") }
    }
}
