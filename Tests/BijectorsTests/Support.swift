import CPU
import Compiler
import Distributions
import Graph
import Layers
import Testing

@testable import Bijectors

/// Deterministic numbers in (-1, 1).
func numbers(_ count: Int, seed: UInt64 = 1) -> [Double] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 0x1234_5678
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Double(Int64(bitPattern: state) >> 11) * 0x1p-52
    }
}

/// A bijector under test: how to make it, the shape of an example, and the range of the data over which it is used.
struct BijectorCase: CustomTestStringConvertible, Sendable {
    let name: String
    let shape: [Int]
    var range = 3.0
    var features = 0
    /// The worst |dx/dz| of the inverse times |z| / |x| over the range, where it is not near one.
    var condition = 1.0
    let make: @Sendable () -> any Bijector
    var testDescription: String { name }

    var exampleShape: Shape { Shape([.batch] + shape.map { Extent($0) }) }
}

/// A bijector with its parameters on the CPU, in a working type.
struct Bench {
    let bijector: any Bijector
    let element: ElementType
    let device: CPUDevice
    let states: [String: any DeviceBuffer]
    let parameters: [(name: String, parameter: Parameter)]
    let values: [String: HostArray]

    init(_ test: BijectorCase, _ element: ElementType, scale: Double = 1, seed: UInt64 = 5) throws {
        try self.init(test.make(), element, scale: scale, seed: seed)
    }

    init(_ bijector: any Bijector, _ element: ElementType, scale: Double = 1, seed: UInt64 = 5) throws {
        self.bijector = bijector
        self.element = element
        device = try CPUDevice(threads: 2)
        bijector.use(element)
        parameters = bijector.namedParameters()
        var states: [String: any DeviceBuffer] = [:]
        var values: [String: HostArray] = [:]
        for (index, (name, parameter)) in parameters.enumerated() {
            // Every parameter moved off its start, also those that start at zero.
            let noise = numbers(parameter.shape.reduce(1, *), seed: seed + UInt64(index))
            let start = parameter.initialValue(named: name, seed: seed).floats
            var moved = zip(start, noise).map { $0 * Float(scale) + Float($1 * 0.3) }
            if !parameter.isTrained { moved = start.map { abs($0) + 0.5 } }
            parameter.clearDead(&moved)
            let array = HostArray(Values(shape: parameter.shape, elements: moved.map { Double($0) }), as: element)
            let buffer = try device.makeBuffer(byteCount: array.bytes.count)
            try array.withUnsafeBytes { try buffer.write($0) }
            states[parameter.label] = buffer
            values[parameter.label] = array
        }
        self.states = states
        self.values = values
    }

    func run(_ outputs: [Tensor], _ feeds: [String: HostArray], batch: Int) throws -> [HostArray] {
        let schedule = try compile(outputs)
        let names = Set(schedule.inputs.map { schedule.values[$0].label })
        let program = try device.load(schedule, maximumBatch: batch, states: states)
        return try program.run(feeds.filter { names.contains($0.key) }.mapValues { .host($0) }, batch: batch)
    }
}
