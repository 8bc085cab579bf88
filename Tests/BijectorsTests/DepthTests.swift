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
    /// Which elements lie far out.
    enum Outliers: CaseIterable, Sendable {
        /// One in two hundred, evenly up to fifty; the gradient's norm is held below 5.
        case even
        /// One in a hundred, from a normal distribution that is fifty times as wide; gradients as they are.
        case wide
    }

    private func rows(_ outliers: Outliers, variables d: Int, _ rows: Range<Int>) -> [Float] {
        var data: [Float] = []
        for row in rows {
            let (value, other) = (numbers(d, seed: UInt64(row)), numbers(d, seed: UInt64(row) + 1 << 32))
            for i in 0..<d {
                switch outliers {
                case .even: data.append(Float((row * d + i) % 200 == 7 ? value[i] * 50 : value[i] * 1.7))
                case .wide:
                    let normal = (-2 * Math.log(abs(value[i]) + 1e-12)).squareRoot() * Math.cos(Double.pi * other[i])
                    data.append(Float((row * 7 + i * 13) % 100 == 7 ? normal * 50 : normal))
                }
            }
        }
        return data
    }

    /// Trains by Adam, written here so that the floors above are not needed.
    private func train(_ flow: Flow, on data: [Float], variables d: Int, clip: Bool, steps: Int, batch: Int) throws -> (
        device: CPUDevice, states: [String: any DeviceBuffer]
    ) {
        let device = try CPUDevice(threads: 2)
        var states: [String: any DeviceBuffer] = [:]
        let store = { (name: String, array: HostArray) in
            let buffer = try device.makeBuffer(byteCount: array.bytes.count)
            try array.withUnsafeBytes { try buffer.write($0) }
            states[name] = buffer
        }
        for (label, value) in flow.initialValues(seed: 3) { try store(label, value) }
        let x = Tensor.input("x", flow.shape)
        let context = Context(.initialize)
        flow.initialize(x, context)
        let first = try device.load(
            compile([], updates: context.updates.map { StateUpdate($0.parameter.tensor, $0.value) }),
            maximumBatch: batch, states: states)
        if !first.schedule.groups.isEmpty {
            _ = try first.run(["x": .host(HostArray(Array(data[0..<batch * d]), shape: [batch, d]))], batch: batch)
        }
        let loss = -flow.logProbability(x, Context(.train)).mean()
        let parameters = flow.namedParameters().map(\.parameter).filter(\.isTrained)
        let grads = try gradients(of: loss, with: parameters.map(\.tensor))
        let norm = grads.map { ($0 * $0).sum() }.reduce(Tensor.scalar(0)) { $0 + $1 }.sqrt()
        let factor = clip ? Tensor.scalar(5) / norm.maximum(.scalar(5)) : .scalar(1)
        var updates: [StateUpdate] = []
        for (parameter, gradient) in zip(parameters, grads) {
            let (p, g) = (parameter.tensor, gradient * factor)
            let m = Tensor.state("m.\(parameter.label)", p.shape)
            let v = Tensor.state("v.\(parameter.label)", p.shape)
            let zeros = HostArray(type: .float32, shape: parameter.shape)
            try store("m.\(parameter.label)", zeros)
            try store("v.\(parameter.label)", zeros)
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
        return (device, states)
    }

    private func check(_ flow: Flow, variables d: Int, _ outliers: Outliers) throws {
        let (device, states) = try train(
            flow, on: rows(outliers, variables: d, 0..<4096), variables: d, clip: outliers == .even, steps: 1000,
            batch: 64)
        let x = Tensor.input("x", flow.shape)
        let forward = try device.load(
            compile([flow.bijector.forward(x, Context()).value, flow.logProbability(x)]), maximumBatch: 512,
            states: states
        )
        let given = HostArray(rows(outliers, variables: d, 4096..<4096 + 512), shape: [512, d])
        let found = try forward.run(["x": .host(given)], batch: 512)
        let isFinite = found[1].floats.allSatisfy { $0.isFinite }
        #expect(isFinite)
        let back = try InverseProgram(
            flow.bijector, example: flow.shape, device: device, maximumBatch: 512, states: states
        ).run(found[0])
        let worst = zip(back.floats, given.floats).map { abs($0 - $1) / max(1, abs($1)) }.max() ?? 0
        #expect(worst <= 1e-3, "\(worst)")
    }

    @Test(arguments: Outliers.allCases) func sixtyFourCouplings(_ outliers: Outliers) throws {
        try check(.realNVP(variables: 19, layers: 64, hidden: [32]), variables: 19, outliers)
    }

    @Test(arguments: Outliers.allCases) func tenAutoregressiveLayers(_ outliers: Outliers) throws {
        try check(.maf(variables: 63, layers: 10, hidden: [64]), variables: 63, outliers)
    }

    /// A column that never varies, and a first batch of one example: neither has a deviation to be divided by.
    @Test(arguments: [64, 1]) func channelsThatDoNotVary(_ batch: Int) throws {
        var data = rows(.even, variables: 4, 0..<4096)
        for row in 0..<4096 { data[4 * row + 1] = 0.25 }
        for flow in [
            Flow.realNVP(variables: 4, layers: 10, hidden: [8]), .maf(variables: 4, layers: 10, hidden: [8]),
        ] {
            let (device, states) = try train(flow, on: data, variables: 4, clip: true, steps: 20, batch: batch)
            let x = Tensor.input("x", flow.shape)
            let density = try device.load(compile([flow.logProbability(x)]), maximumBatch: 2, states: states)
            let near = HostArray([1, 0.25, 1, 1, 1, 0.2501, 1, 1] as [Float], shape: [2, 4])
            let found = try density.run(["x": .host(near)], batch: 2)[0].floats
            #expect(found.allSatisfy { abs($0) < 100 }, "\(found)")
        }
    }
}
