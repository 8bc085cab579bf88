import Graph

/// What a program and what it is given disagree about: the batch, the feeds, the states.
public enum BindingError: Error, Equatable, Sendable, CustomStringConvertible {
    case wrongMaximumBatch(Int)
    case wrongBatch(Int, maximum: Int)
    case missingFeed(name: String, expected: String, given: [String])
    case wrongFeed(name: String, expected: String, found: String)
    case unknownFeed(name: String, inputs: [String])
    case foreignFeed(name: String, device: String)
    case missingState(name: String, expected: String)
    case wrongState(name: String, expected: String, found: String)
    case foreignState(name: String, device: String)

    public var description: String {
        func list(_ names: [String]) -> String { names.isEmpty ? "nothing" : names.sorted().joined(separator: ", ") }
        return switch self {
        case .wrongMaximumBatch(let maximum):
            "the largest batch must hold at least one example, found \(maximum)"
        case .wrongBatch(let batch, let maximum):
            "a batch of \(batch) was asked for and the program was loaded for 1 to \(maximum);"
                + " load it with a larger maximumBatch or feed fewer examples"
        case .missingFeed(let name, let expected, let given):
            "input '\(name)' was not fed: expected \(expected), found feeds for \(list(given)); feed an array of that name"
        case .wrongFeed(let name, let expected, let found):
            "input '\(name)' wants \(expected) and was fed \(found); convert or reshape what is fed"
        case .unknownFeed(let name, let inputs):
            "'\(name)' was fed and the program has no input of that name (it reads \(list(inputs))); leave it out"
        case .foreignFeed(let name, let device):
            "input '\(name)' was fed a buffer of another device than \(device);"
                + " read it and write it to a buffer of this one"
        case .missingState(let name, let expected):
            "the program has a state '\(name)' (\(expected)) and no buffer of that name was given; pass one in `states`"
        case .wrongState(let name, let expected, let found):
            "state '\(name)' wants a buffer of \(expected) and was given one of \(found); the two must be equal"
        case .foreignState(let name, let device):
            "state '\(name)' is a buffer of another device than \(device);"
                + " read it and write it to a buffer of this one"
        }
    }
}

/// The inputs and states of a program, a schedule's or a sampler's, on any device: what is given is checked here, in one wording, before a
/// backend touches it.
public struct ProgramBinding: Sendable {
    /// A value that is given from outside.
    private struct Slot {
        let value: Int
        let name: String
        let type: TensorType
        /// Whether arrays of any shape with as many elements will do.
        let takesAnyShape: Bool

        func expected(batch: Int) -> String {
            takesAnyShape
                ? "\(type.shape.count.resolved(batch: batch)) elements of \(type.element)"
                : "\(type.element)\(type.shape.resolved(batch: batch))"
        }

        func takes(_ array: HostArray, batch: Int) -> Bool {
            guard array.type == type.element else { return false }
            return takesAnyShape
                ? array.count == type.shape.count.resolved(batch: batch)
                : array.shape == type.shape.resolved(batch: batch)
        }
    }

    /// A feed for one value, on the device whose buffers are of type `Buffer`.
    public enum BoundFeed<Buffer> {
        case host(HostArray)
        case device(Buffer)
    }

    /// The most examples that a batch may have.
    public let maximumBatch: Int
    private let inputs: [Slot]
    private let states: [Slot]
    /// Whether feeds that the program does not read are refused.
    private let refusesMore: Bool

    /// - Throws: `BindingError` if the batch holds no example.
    public init(_ schedule: Schedule, maximumBatch: Int) throws(BindingError) {
        var (inputs, states) = ([Slot](), [Slot]())
        for (id, value) in schedule.values.enumerated() {
            switch value.storage {
            case .input(let name): inputs.append(Slot(value: id, name: name, type: value.type, takesAnyShape: false))
            case .state(let name): states.append(Slot(value: id, name: name, type: value.type, takesAnyShape: false))
            case .constant, .temporary: break
            }
        }
        try self.init(inputs: inputs, states: states, refusesMore: true, maximumBatch: maximumBatch)
    }

    /// - Throws: `BindingError` if the batch holds no example.
    public init(_ program: SamplingProgram, maximumBatch: Int) throws(BindingError) {
        var (inputs, states) = ([Slot](), [Slot]())
        for (id, value) in program.values.enumerated() {
            let axes: [Extent] = value.isShared ? [Extent(value.count)] : [.batch, Extent(value.count)]
            let type = TensorType(Shape(axes), value.element)
            switch value.storage {
            case .input(let name): inputs.append(Slot(value: id, name: name, type: type, takesAnyShape: true))
            case .state(let name): states.append(Slot(value: id, name: name, type: type, takesAnyShape: true))
            case .constant, .temporary, .variable: break
            }
        }
        try self.init(inputs: inputs, states: states, refusesMore: false, maximumBatch: maximumBatch)
    }

    private init(inputs: [Slot], states: [Slot], refusesMore: Bool, maximumBatch: Int) throws(BindingError) {
        guard maximumBatch >= 1 else { throw .wrongMaximumBatch(maximumBatch) }
        self.inputs = inputs
        self.states = states
        self.refusesMore = refusesMore
        self.maximumBatch = maximumBatch
    }

    /// - Throws: `BindingError` if the program was not loaded for so many examples.
    public func check(batch: Int) throws(BindingError) {
        guard (1...maximumBatch).contains(batch) else { throw .wrongBatch(batch, maximum: maximumBatch) }
    }

    /// Checks an array that is to be written to a value of this type.
    public static func check(_ array: HostArray, for name: String, _ type: TensorType, batch: Int) throws(BindingError)
    {
        let slot = Slot(value: 0, name: name, type: type, takesAnyShape: false)
        guard slot.takes(array, batch: batch) else {
            throw .wrongFeed(
                name: name, expected: slot.expected(batch: batch), found: "\(array.type)\(array.shape)")
        }
    }

    /// The feed of every input, by its value.
    ///
    /// - Parameter own: a buffer as one of this device's, `nil` if it is another's.
    public func bind<Buffer: DeviceBuffer>(
        _ feeds: [String: Feed], batch: Int, device: String, own: (any DeviceBuffer) -> Buffer?
    ) throws(BindingError) -> [(value: Int, feed: BoundFeed<Buffer>)] {
        try check(batch: batch)
        var result: [(value: Int, feed: BoundFeed<Buffer>)] = []
        for slot in inputs {
            guard let feed = feeds[slot.name] else {
                throw .missingFeed(name: slot.name, expected: slot.expected(batch: batch), given: Array(feeds.keys))
            }
            switch feed {
            case .host(let array):
                guard slot.takes(array, batch: batch) else {
                    throw .wrongFeed(
                        name: slot.name, expected: slot.expected(batch: batch), found: "\(array.type)\(array.shape)")
                }
                result.append((slot.value, .host(array)))
            case .device(let buffer):
                guard let buffer = own(buffer) else { throw .foreignFeed(name: slot.name, device: device) }
                let bytes = slot.type.byteCount(batch: batch)
                guard buffer.byteCount >= bytes else {
                    throw .wrongFeed(
                        name: slot.name, expected: "\(slot.expected(batch: batch)), \(bytes) bytes",
                        found: "a buffer of \(buffer.byteCount)")
                }
                result.append((slot.value, .device(buffer)))
            }
        }
        // Each input has one by now.
        if refusesMore, feeds.count > inputs.count {
            let names = Set(inputs.map(\.name))
            if let name = feeds.keys.sorted().first(where: { !names.contains($0) }) {
                throw .unknownFeed(name: name, inputs: Array(names))
            }
        }
        return result
    }

    /// The buffer of every state, by its value.
    ///
    /// - Parameter own: a buffer as one of this device's, `nil` if it is another's.
    public func bind<Buffer: DeviceBuffer>(
        states given: [String: any DeviceBuffer], device: String, own: (any DeviceBuffer) -> Buffer?
    ) throws(BindingError) -> [Int: Buffer] {
        var result: [Int: Buffer] = [:]
        for slot in states {
            let expected = slot.expected(batch: maximumBatch)
            guard let state = given[slot.name] else { throw .missingState(name: slot.name, expected: expected) }
            guard let buffer = own(state) else { throw .foreignState(name: slot.name, device: device) }
            let bytes = slot.type.byteCount(batch: maximumBatch)
            guard buffer.byteCount == bytes else {
                throw .wrongState(name: slot.name, expected: "\(bytes) bytes", found: "\(buffer.byteCount)")
            }
            result[slot.value] = buffer
        }
        return result
    }
}
