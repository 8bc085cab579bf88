import Compiler
import Graph
import Testing

@testable import OpenCL

/// One device for each kernel family, shared by all tests; tiles are counted.
enum Devices {
    private static let gpu = Result { try OpenCLDevice.named(kernels: .gpu, countsTiles: true) }
    private static let cpu = Result { try OpenCLDevice.named(kernels: .cpu, countsTiles: true) }

    static func of(_ family: KernelFamily) throws -> OpenCLDevice { try (family == .gpu ? gpu : cpu).get() }

    /// With kernels for GPUs, which are written for a device of so many units.
    static func gpu(units: Int) throws -> OpenCLDevice {
        var description = try #require(DeviceDescription.all.first)
        description.computeUnits = units
        return try OpenCLDevice(description, number: 0, kernels: .gpu, joinsLaunches: true)
    }
}

/// A deterministic source of test data.
struct Dice {
    var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }

    /// In [-1, 1).
    mutating func float() -> Float { Float(Int32(truncatingIfNeeded: next() >> 32)) / 2_147_483_648 }
    mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in float() } }
    mutating func integer(below bound: Int) -> Int { Int((next() >> 33) % UInt64(bound)) }
    mutating func integers(_ count: Int, below bound: Int) -> [Int32] {
        (0..<count).map { _ in Int32(integer(below: bound)) }
    }
}

extension Schedule {
    /// Adds a value and returns its number.
    mutating func add(_ type: TensorType, _ storage: Value.Storage, label: String = "value") -> Int {
        values.append(Value(type, storage, label: label))
        let id = values.count - 1
        switch storage {
        case .input: inputs.append(id)
        case .state: states.append(id)
        default: break
        }
        return id
    }

    mutating func input(_ name: String, _ shape: Shape, _ element: ElementType = .float32) -> Int {
        add(TensorType(shape, element), .input(name), label: name)
    }

    mutating func state(_ name: String, _ shape: Shape) -> Int { add(TensorType(shape), .state(name), label: name) }

    mutating func output(_ shape: Shape, _ element: ElementType = .float32) -> Int {
        let id = add(TensorType(shape, element), .temporary, label: "output")
        outputs.append(id)
        return id
    }

    mutating func add(_ kind: any GroupKind, _ label: String = "test") {
        groups.append(Group(kind, label: label, location: nil))
    }

    /// A whole value in its own order.
    func whole(_ value: Int) -> Operand {
        Operand(.value(value), strides: values[value].type.shape.strides, element: values[value].type.element)
    }
}

extension Program {
    static func identity(_ element: ElementType = .float32) -> Program { Program(inputs: [element], outputs: [0]) }
}

/// Random contents for every input of a schedule.
func randomFeeds(_ schedule: Schedule, batch: Int, seed: UInt64 = 1) -> [String: HostArray] {
    var dice = Dice(seed)
    var feeds: [String: HostArray] = [:]
    for id in schedule.inputs {
        guard case .input(let name) = schedule.values[id].storage else { continue }
        let type = schedule.values[id].type
        let shape = type.shape.resolved(batch: batch)
        let count = shape.reduce(1, *)
        switch type.element {
        case .int32: feeds[name] = HostArray(dice.integers(count, below: 200).map { $0 - 100 }, shape: shape)
        case .uint8: feeds[name] = HostArray((0..<count).map { _ in UInt8(dice.integer(below: 256)) }, shape: shape)
        case .bool: feeds[name] = HostArray((0..<count).map { _ in dice.integer(below: 2) == 1 }, shape: shape)
        default: feeds[name] = HostArray(dice.floats(count), shape: shape)
        }
    }
    return feeds
}

/// Runs a schedule on one kernel family and compares every output with the naive loops, relative to the largest element.
/// - Returns: the device's outputs.
@discardableResult
func expectMatch(
    _ schedule: Schedule, _ family: KernelFamily, feeds: [String: HostArray]? = nil, batches: [Int] = [3],
    tolerance: Double = 1e-5, _ comment: Comment? = nil, sourceLocation: Testing.SourceLocation = #_sourceLocation
) throws -> [HostArray] {
    let executable = try Devices.of(family).load(schedule, maximumBatch: batches.max() ?? 1, states: [:])
    var last: [HostArray] = []
    for batch in batches {
        let given = feeds ?? randomFeeds(schedule, batch: batch)
        let results = try executable.run(given.mapValues { .host($0) }, batch: batch)
        let reference = Reference(schedule, feeds: given, batch: batch)
        for (value, result) in zip(schedule.outputs, results) {
            expectClose(
                result.doubles, reference.arrays[value]!, tolerance: tolerance, comment ?? "batch \(batch), \(family)",
                sourceLocation: sourceLocation)
        }
        last = results
    }
    return last
}

/// NaN matches NaN, infinities match themselves, finite elements match within `tolerance` of the largest finite one.
func expectClose(
    _ found: [Double], _ expected: [Double], tolerance: Double, _ comment: Comment? = nil,
    sourceLocation: Testing.SourceLocation = #_sourceLocation
) {
    #expect(found.count == expected.count, comment, sourceLocation: sourceLocation)
    let scale = expected.lazy.filter(\.isFinite).map(\.magnitude).max() ?? 0
    var wrong: [String] = []
    for (index, (a, b)) in zip(found, expected).enumerated() {
        let same = a.isNaN ? b.isNaN : a.isFinite ? abs(a - b) <= tolerance * max(scale, 1e-30) : a == b
        if !same { wrong.append("[\(index)] found \(a), expected \(b)") }
    }
    // The macro would print the whole list.
    let agrees = wrong.isEmpty
    #expect(
        agrees,
        "\(wrong.count) of \(found.count) differ: \(wrong.prefix(5).joined(separator: "; ")) \(comment?.rawValue ?? "")",
        sourceLocation: sourceLocation)
}
