import CPU
import Compiler
import Datasets
import Graph
import OpenCL
import Testing

@testable import Layers

/// Recurrent layers with the weights of PyTorch's (Scripts/make_recurrent_goldens.py).
@Suite(.serialized) struct RecurrentTests {
    private let arrays: [String: HostArray]

    init() throws {
        let folder = "\(#filePath)".split(separator: "/").dropLast().joined(separator: "/")
        arrays = try SafeTensors.read("/\(folder)/Goldens/recurrent.safetensors").arrays
    }

    /// In double precision on the CPU, in float32 there and on OpenCL.
    private func devices() throws -> [(device: any Device, element: ElementType)] {
        let cpu = try CPUDevice(threads: 2)
        let others = KernelFamily.allCases.compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
        return [(cpu, .float64), (cpu, .float32)] + others.map { ($0, .float32) }
    }

    /// Runs a graph with the weights of a golden and compares each result with one of its arrays.
    private func check(
        _ name: String, _ network: RecurrentStack,
        _ outputs: (_ element: ElementType) throws -> [(key: String, tensor: Tensor)]
    ) throws {
        for (device, element) in try devices() {
            network.use(element)
            var states: [String: any DeviceBuffer] = [:]
            for (path, parameter) in network.namedParameters() {
                let array = try #require(arrays["\(name)/\(golden(path))"], "\(name): \(path)")
                #expect(array.shape == parameter.shape)
                let typed = HostArray(Values(shape: array.shape, elements: array.doubles), as: element)
                let buffer = try device.makeBuffer(byteCount: typed.bytes.count)
                try typed.withUnsafeBytes { try buffer.write($0) }
                states[parameter.label] = buffer
            }
            let results = try outputs(element)
            let found = try device.load(compile(results.map(\.tensor)), maximumBatch: 3, states: states).run(
                [:], batch: 3)
            let tolerance = element == .float64 ? 1e-10 : 1e-5
            for ((key, _), array) in zip(results, found) {
                let expected = try #require(arrays["\(name)/\(key)"], "\(name): \(key)").doubles
                let worst = zip(expected, array.doubles).map { abs($0 - $1) / max(1, abs($0)) }.max() ?? 0
                #expect(
                    array.doubles.count == expected.count && worst <= tolerance,
                    "\(name) \(key) on \(device.summary), \(element): \(worst)")
            }
        }
    }

    /// PyTorch's name of a parameter: `layers.1.weight_ih` is `weight_ih_l1`, of a layer that goes backwards `weight_ih_l1_reverse`.
    private func golden(_ path: String) -> String {
        let parts = path.split(separator: ".")
        return "\(parts[2])_l\(parts[1])" + (parts[0] == "backwards" ? "_reverse" : "")
    }

    private func constant(_ key: String, _ element: ElementType) throws -> Tensor {
        let array = try #require(arrays[key])
        return .constant(HostArray(Values(shape: array.shape, elements: array.doubles), as: element))
    }

    @Test(arguments: Recurrence.allCases, [false, true])
    func agreesWithPyTorch(recurrence: Recurrence, isBidirectional: Bool) throws {
        let name = recurrence.rawValue + (isBidirectional ? "2" : "1")
        let network = RecurrentStack(recurrence, 5, 4, layers: 2, isBidirectional: isBidirectional)
        try check(name, network) { element in
            let (x, dy) = (try constant("\(name)/x", element), try constant("\(name)/dy", element))
            let starts = try (0..<recurrence.stateCount).map { try constant("\(name)/state\($0)", element) }
            let directions = isBidirectional ? 2 : 1
            // PyTorch has the directions of a layer side by side.
            func place(_ index: Int) -> Int { directions == 1 ? index : index % 2 * 2 + index / 2 }
            let states = (0..<2 * directions).map { index in
                starts.map { $0.sliced(axis: 0, from: place(index), count: 1).reshaped([3, 4]) }
            }
            let (y, last) = network(x, Context(), states: states)
            let named = network.namedParameters()
            let slopes = try gradients(of: (y * dy).sum(), with: [x] + named.map(\.parameter.tensor))
            let lasts = (0..<recurrence.stateCount).map { number in
                (
                    "last\(number)",
                    Tensor.concatenate(
                        (0..<2 * directions).map { last[place($0)][number].reshaped([1, 3, 4]) }, axis: 0)
                )
            }
            return [("y", y)] + lasts + zip(["dx"] + named.map { "d" + golden($0.name) }, slopes).map { ($0, $1) }
        }
    }

    /// Sequences of unequal length: behind its end a state stays, and what is read there has no gradient.
    @Test func sequencesEnd() throws {
        let network = RecurrentStack(.lstm, 5, 4, layers: 1)
        try check("packed", network) { element in
            let x = try constant("packed/x", element)
            let lengths = try constant("packed/lengths", element)
            let mask = Tensor.iota([6, 3], axis: 0).cast(to: element).less(lengths.broadcast(to: [6, 3])).cast(
                to: element)
            let (outputs, last) = network(x, Context(), mask: mask)
            // PyTorch has zeros behind the end.
            let y = outputs * mask.reshaped([6, 3, 1])
            let named = network.namedParameters()
            let loss = y.squared().sum() + last[0][0].squared().sum()
            let slopes = try gradients(of: loss, with: [x] + named.map(\.parameter.tensor))
            return [("y", y), ("last0", last[0][0].reshaped([1, 3, 4])), ("last1", last[0][1].reshaped([1, 3, 4]))]
                + zip(["dx"] + named.map { "d" + golden($0.name) }, slopes).map { ($0, $1) }
        }
    }

    /// A state that is carried from one part of a sequence to the next makes the parts a whole.
    @Test func statesAreCarried() throws {
        let network = RecurrentStack(.gru, 2, 3, layers: 2)
        network.use(.float64)
        var bound = Dictionary(
            uniqueKeysWithValues: network.namedParameters().map { name, parameter in
                (
                    parameter.label,
                    Values(shape: parameter.shape, elements: parameter.initialValue(named: name, seed: 2).doubles)
                )
            })
        let x = Tensor.input("x", [6, .batch, 2], .float64)
        bound["x"] = Values(shape: [6, 2, 2], elements: (0..<24).map { Double($0 % 7) - 3 })
        let whole = network(x, Context()).outputs
        let first = network(x.sliced(axis: 0, from: 0, count: 2), Context())
        let second = network(x.sliced(axis: 0, from: 2, count: 4), Context(), states: first.states)
        let parts = Tensor.concatenate([first.outputs, second.outputs], axis: 0)
        let found = try Interpreter(batch: 2, bound).run([whole, parts])
        #expect(zip(found[0].elements, found[1].elements).allSatisfy { abs($0 - $1) < 1e-14 })
    }

    /// Truncation changes no value; the gradient is that of parts whose starts are constants, in training alone.
    @Test func truncationCutsGradients() throws {
        let network = RecurrentStack(.lstm, 2, 3, layers: 1)
        network.use(.float64)
        let parameters = network.parameters.map(\.tensor)
        var bound = Dictionary(
            uniqueKeysWithValues: network.namedParameters().map { name, parameter in
                (
                    parameter.label,
                    Values(shape: parameter.shape, elements: parameter.initialValue(named: name, seed: 4).doubles)
                )
            })
        let x = Tensor.input("x", [5, .batch, 2], .float64)
        bound["x"] = Values(shape: [5, 2, 2], elements: (0..<20).map { Double($0 * 3 % 7) - 3 })
        func loss(_ outputs: Tensor) -> Tensor { outputs.squared().sum() }
        let cut = network(x, Context(.train), truncation: 2).outputs
        var (states, outputs): ([[Tensor]]?, [Tensor]) = (nil, [])
        for start in [0, 2, 4] {
            let part = network(x.sliced(axis: 0, from: start, count: min(2, 5 - start)), Context(), states: states)
            states = part.states.map { $0.map { $0.stoppingGradient() } }
            outputs.append(part.outputs)
        }
        let whole = network(x, Context(.evaluate), truncation: 2).outputs
        let expected = try gradients(of: loss(.concatenate(outputs, axis: 0)), with: parameters)
        let found = try gradients(of: loss(cut), with: parameters)
        let uncut = try gradients(of: loss(whole), with: parameters)
        let values = try Interpreter(batch: 2, bound).run(expected + found + uncut + [cut, whole])
        let n = parameters.count
        for i in 0..<n {
            #expect(zip(values[i].elements, values[n + i].elements).allSatisfy { abs($0 - $1) < 1e-12 })
        }
        #expect(
            (0..<n).contains { i in zip(values[i].elements, values[2 * n + i].elements).contains { abs($0 - $1) > 1e-3 }
            })
        #expect(values[3 * n].elements == values[3 * n + 1].elements)
    }

    /// Twice as many steps take at most twice as much memory and a little.
    @Test func memoryGrowsWithSteps() throws {
        func bytes(_ steps: Int) throws -> Int {
            let network = RecurrentStack(.lstm, 8, 16, layers: 1)
            let x = Tensor.input("x", [Extent(steps), .batch, 8])
            let loss = network(x, Context()).outputs.squared().mean()
            let device = try CPUDevice(threads: 1)
            var states: [String: any DeviceBuffer] = [:]
            for parameter in network.parameters {
                states[parameter.label] = try device.makeBuffer(byteCount: parameter.shape.reduce(1, *) * 4)
            }
            let slopes = try gradients(of: loss, with: network.parameters.map(\.tensor))
            return try device.load(compile([loss] + slopes), maximumBatch: 4, states: states).plannedBytes
        }
        #expect(Double(try bytes(400)) <= 2.1 * Double(try bytes(200)))
    }

    @Test func mistakes() {
        let layer = RecurrentLayer(.rnn, 2, 3)
        let outputs = layer(.input("x", [.batch, 2])).outputs
        #expect(outputs.error?.description.contains("expected [steps, batch, inputs]") == true)
        let wide = layer(.input("x", [4, .batch, 5])).outputs
        #expect(wide.error?.description.contains("cannot multiply") == true)
    }
}
