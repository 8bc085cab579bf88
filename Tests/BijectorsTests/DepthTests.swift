import CPU
import Compiler
import Distributions
import Graph
import Layers
import Models
import Testing

@testable import Bijectors

/// Deep stacks on data with outliers of fifty standard deviations.
@Suite(.serialized) struct DepthTests {
    /// Trains by Adam, written here so that the floors above are not needed.
    private func train(_ flow: Flow, variables d: Int, steps: Int, batch: Int) throws -> (
        device: CPUDevice, states: [String: any DeviceBuffer], data: [Float]
    ) {
        let device = try CPUDevice(threads: 2)
        var states: [String: any DeviceBuffer] = [:]
        let store = { (name: String, array: HostArray) in
            let buffer = try device.makeBuffer(byteCount: array.bytes.count)
            try array.withUnsafeBytes { try buffer.write($0) }
            states[name] = buffer
        }
        var data: [Float] = []
        for row in 0..<4096 {
            for (i, value) in numbers(d, seed: UInt64(row)).enumerated() {
                // One element in two hundred is an outlier.
                data.append(Float((row * d + i) % 200 == 7 ? value * 50 : value * 1.7))
            }
        }
        for (name, parameter) in flow.namedParameters() { try store(name, parameter.initialValue(seed: 3)) }
        let x = Tensor.input("x", flow.shape)
        let first = try device.load(
            compile([], updates: flow.initialization(x).map { StateUpdate($0.parameter.tensor, $0.value) }),
            maximumBatch: batch, states: states)
        if !first.schedule.groups.isEmpty {
            _ = try first.run(["x": .host(HostArray(Array(data[0..<batch * d]), shape: [batch, d]))], batch: batch)
        }
        let loss = -flow.logProbability(x, Pass(.train)).mean()
        let parameters = flow.namedParameters().map(\.parameter).filter(\.isTrained)
        let grads = try gradients(of: loss, with: parameters.map(\.tensor))
        let norm = grads.map { ($0 * $0).sum() }.reduce(Tensor.scalar(0)) { $0 + $1 }.sqrt()
        let factor = Tensor.scalar(5) / norm.maximum(.scalar(5))
        var updates: [StateUpdate] = []
        for (parameter, gradient) in zip(parameters, grads) {
            let (p, g) = (parameter.tensor, gradient * factor)
            let m = Tensor.state("m.\(parameter.name)", p.shape)
            let v = Tensor.state("v.\(parameter.name)", p.shape)
            let zeros = HostArray(type: .float32, shape: parameter.shape)
            try store("m.\(parameter.name)", zeros)
            try store("v.\(parameter.name)", zeros)
            let (m1, v1) = (m * 0.9 + g * 0.1, v * 0.999 + g * g * 0.001)
            updates += [StateUpdate(m, m1), StateUpdate(v, v1), StateUpdate(p, p - m1 * 1e-3 / (v1.sqrt() + 1e-6))]
        }
        let step = try device.load(compile([loss], updates: updates), maximumBatch: batch, states: states)
        for t in 0..<steps {
            let start = t * batch % 4096
            let rows = HostArray(Array(data[start * d..<(start + batch) * d]), shape: [batch, d])
            let value = try step.run(["x": .host(rows)], batch: batch)[0].floats[0]
            #expect(value.isFinite, "step \(t)")
            if !value.isFinite { break }
        }
        return (device, states, data)
    }

    private func check(_ flow: Flow, variables d: Int) throws {
        let batch = 64
        let (device, states, data) = try train(flow, variables: d, steps: 1000, batch: batch)
        let x = Tensor.input("x", flow.shape)
        let forward = try device.load(
            compile([flow.bijector.forward(x, Pass()).value, flow.logProbability(x)]), maximumBatch: 512, states: states
        )
        let given = HostArray(Array(data[0..<512 * d]), shape: [512, d])
        let found = try forward.run(["x": .host(given)], batch: 512)
        let isFinite = found[1].floats.allSatisfy { $0.isFinite }
        #expect(isFinite)
        let back = try InverseProgram(
            flow.bijector, example: flow.shape, device: device, maximumBatch: 512, states: states
        ).run(found[0])
        let worst = zip(back.floats, given.floats).map { abs($0 - $1) / max(1, abs($1)) }.max() ?? 0
        #expect(worst <= 1e-3, "\(worst)")
    }

    @Test func sixtyFourCouplings() throws {
        try check(
            .realNVP(variables: 19, layers: 64, hidden: [32]), variables: 19)
    }

    @Test func tenAutoregressiveLayers() throws {
        try check(
            .maf(variables: 63, layers: 10, hidden: [64]), variables: 63)
    }
}
