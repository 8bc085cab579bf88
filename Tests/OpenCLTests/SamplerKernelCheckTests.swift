import Compiler
import Foundation
import Graph
import Testing

@testable import OpenCL

/// The sampler's kernel on a tiny network with every kind of work in it, for `make check-kernels`.
@Suite(.serialized) struct SamplerKernelCheckTests {
    @Test(arguments: KernelFamily.allCases) func sampler(family: KernelFamily) throws {
        let x = Tensor.input("x", [.batch, 5])
        let hidden =
            (x.maskedDense(
                .state("w", [6, 5]), mask: .degrees(input: [1, 2, 3, 4, 5], output: [1, 2, 2, 3, 4, 4], strict: false))
            + Tensor.state("b", [6])).relu()
        let head = hidden.maskedDense(
            .state("v", [5, 6]), mask: .degrees(input: [1, 2, 2, 3, 4, 4], output: [1, 2, 3, 4, 5], strict: true))
        let shifted = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 5)
        let scores = shifted.reshaped([.batch, 5, 1]).matmul(x.reshaped([.batch, 1, 5]))
        let causal = Tensor.iota([5, 5], axis: 1).less(.iota([5, 5], axis: 0))
        let attended = Tensor.select(causal, scores, 0).sum(axes: [2])
        let examples = Tensor.input("examples", [.batch], .int32)
        let bits = Tensor.elementwise(
            .philox,
            [
                .scalar(1, .int32), .scalar(2, .int32), .scalar(0, .int32), .scalar(0, .int32),
                examples.reshaped([.batch, 1]).broadcast(to: [.batch, 5]), Tensor.iota([5], axis: 0),
            ])
        let drawn = (head + shifted * 0.5 + attended * 0.1).tanh() + bits.apply(.normalFromBits)
        let program = try SamplingProgram(variable: x, drawn: drawn, order: .natural(5), outputs: [head])

        let device = try OpenCLDevice.named(kernels: family)
        var states: [String: any DeviceBuffer] = [:]
        var bindings: [String: Values] = ["examples": Values(shape: [3], elements: [4, 0, 7])]
        for (name, shape) in [("w", [6, 5]), ("b", [6]), ("v", [5, 6])] {
            let count = shape.reduce(1, *)
            let values = Values(
                shape: shape, elements: (0..<count).map { Double(Float(($0 * 37 + shape[0]) % 11) * 0.1 - 0.5) })
            bindings[name] = values
            let buffer = try device.makeBuffer(byteCount: count * 4)
            try HostArray(values, as: .float32).withUnsafeBytes { try buffer.write($0) }
            states[name] = buffer
        }
        let sampler = try OpenCLSampler(device, program, maximumBatch: 3, states: states)
        let found = try sampler.run(["examples": HostArray(bindings["examples"]!, as: .int32)], batch: 3)
        var oracle = try SamplingInterpreter(program, batch: 3, bindings)
        for (a, b) in zip(oracle.run(), found) {
            #expect(zip(a.elements, b.doubles).allSatisfy { abs($0 - $1) <= 1e-5 * max(1, abs($0)) }, "\(family)")
        }
        try write(sampler.source, "\(family)-sampler")
    }

    /// Sums in parts and attention, by one group for many steps and spread over several groups.
    @Test(arguments: [false, true]) func parts(isWide: Bool) throws {
        let program = try SamplerPlanTests.program(20)
        let device = try OpenCLDevice.named(kernels: .gpu)
        let shape = SamplerPlan.Shape(group: 64, lanes: 2, partials: 1024)
        let sampler = try OpenCLSampler(device, program, maximumBatch: 3, states: [:]) {
            SamplerPlan(
                $0, SamplerPlan.Limits(units: 4, workGroup: 64, localBytes: 16384), batch: 3, shapes: [shape],
                isWide: isWide)
        }
        var dice = Dice(9)
        let noise = HostArray(dice.floats(3 * 20), shape: [3, 20])
        let found = try sampler.run(["noise": noise], batch: 3)
        var oracle = try SamplingInterpreter(program, batch: 3, ["noise": noise.values])
        for (a, b) in zip(oracle.run(), found) { expectClose(b.doubles, a.elements, tolerance: 1e-5) }
        try write(sampler.source, "gpu-attention-sampler")
    }

    private func write(_ source: String, _ name: String) throws {
        if let folder = ProcessInfo.processInfo.environment["MARTLET_KERNEL_SOURCES"] {
            try source.write(toFile: "\(folder)/\(name).cl", atomically: true, encoding: .utf8)
        }
    }
}
