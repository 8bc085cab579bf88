import Compiler
import Graph
import Testing

@testable import CPU

/// A reproducible stream of numbers.
struct Generator: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }
    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_F491_4F6C_DD1D
    }
    /// Uniform in [-1, 1).
    mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in Float.random(in: -1..<1, using: &self) } }
}

extension Schedule {
    /// Adds a value and returns its number.
    mutating func add(_ shape: Shape, _ element: ElementType = .float32, _ storage: Value.Storage = .temporary) -> Int {
        values.append(Value(TensorType(shape, element), storage, label: "value \(values.count)"))
        if case .input = storage { inputs.append(values.count - 1) }
        if case .state = storage { states.append(values.count - 1) }
        return values.count - 1
    }

    mutating func input(_ shape: Shape, _ element: ElementType = .float32) -> Int {
        add(shape, element, .input("input \(values.count)"))
    }

    mutating func output(_ shape: Shape, _ element: ElementType = .float32) -> Int {
        let value = add(shape, element)
        outputs.append(value)
        return value
    }

    /// The whole of a value, contiguously.
    func whole(_ value: Int) -> Operand {
        Operand(.value(value), strides: values[value].type.shape.strides, element: values[value].type.element)
    }

    mutating func append(_ kind: any GroupKind) {
        groups.append(Group(kind, label: "group \(groups.count)", location: nil))
    }
}

extension Program {
    static let identity = Program(inputs: [.float32], outputs: [0])
    static func identity(_ element: ElementType) -> Program { Program(inputs: [element], outputs: [0]) }
}

/// Made once; a test that wants one which could not be made fails with the reason.
private let devices = [1, 2].map { threads in
    Result {
        try Dictionary(
            uniqueKeysWithValues: InstructionSet.available.map {
                ($0, try CPUDevice(threads: threads, instructionSet: $0))
            })
    }
}

func device(_ instructionSet: InstructionSet, threads: Int = 2) throws -> CPUDevice {
    try devices[threads - 1].get()[instructionSet]!
}

/// Runs a schedule whose values are fed by number, with two threads and with one, which must agree to the bit.
func run(_ schedule: Schedule, _ feeds: [Int: HostArray], batch: Int = 1, instructionSet: InstructionSet) throws
    -> [HostArray]
{
    var named: [String: Feed] = [:]
    var results: [[HostArray]] = []
    for device in try [device(instructionSet), device(instructionSet, threads: 1)] {
        var states: [String: any DeviceBuffer] = [:]
        for (value, array) in feeds {
            switch schedule.values[value].storage {
            case .input(let name): named[name] = .host(array)
            case .state(let name):
                let buffer = try device.makeBuffer(byteCount: array.bytes.count)
                try array.withUnsafeBytes { try buffer.write($0) }
                states[name] = buffer
            default: Issue.record("value \(value) cannot be fed")
            }
        }
        let executable = try device.load(schedule, maximumBatch: batch, states: states)
        results.append(try executable.run(named, batch: batch))
    }
    #expect(results[0] == results[1], "one and two threads must agree to the bit")
    return results[0]
}

/// Runs a schedule and compares every output with the reference: |a - b| <= tolerance * max(1, largest |b|).
func check(
    _ schedule: Schedule, _ feeds: [Int: HostArray], batch: Int = 1, tolerance: Double = 1e-5,
    instructionSets: [InstructionSet] = InstructionSet.available,
    sourceLocation: Testing.SourceLocation = #_sourceLocation
) throws {
    let reference = Reference(schedule, batch: batch, inputs: feeds)
    for instructionSet in instructionSets {
        let results = try run(schedule, feeds, batch: batch, instructionSet: instructionSet)
        for (output, result) in zip(schedule.outputs, results) {
            let expected = reference.values[output]!
            let scale = expected.reduce(1) { $1.isFinite ? max($0, abs($1)) : $0 }
            var worst = 0.0
            var place = 0
            for (index, (a, b)) in zip(result.doubles, expected).enumerated() where !(a.isNaN && b.isNaN) && a != b {
                let error = abs(a - b)
                if !(error <= worst) { (worst, place) = (error, index) }
            }
            #expect(
                worst <= tolerance * scale,
                "\(instructionSet), output \(output): \(result.doubles[place]) at \(place) instead of \(expected[place])",
                sourceLocation: sourceLocation)
        }
    }
}
