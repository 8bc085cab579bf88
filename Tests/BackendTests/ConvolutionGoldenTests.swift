import CPU
import Compiler
import Datasets
import Graph
import OpenCL
import Testing

/// Convolutions, transposed ones and all their gradients against PyTorch's (Scripts/make_convolution_goldens.py).
@Suite(.serialized) struct ConvolutionGoldenTests {
    @Test func agreesWithPyTorch() throws {
        let path = "\(#filePath)".split(separator: "/").dropLast().joined(separator: "/")
        let tensors = try SafeTensors.read("/\(path)/Goldens/convolutions.safetensors").arrays
        let names = Set(tensors.keys.map { String($0.prefix { $0 != "/" }) }).sorted()
        #expect(names.count == 60)
        var outputs: [Tensor] = []
        var feeds: [String: Feed] = [:]
        for name in names {
            let parts = name.split(separator: "-").map(String.init)
            let lists = parts[2...4].map { $0.split(separator: "x").map { Int($0)! } }
            let (stride, dilation, groups) = (lists[0], lists[2], Int(parts[5])!)
            let padding = lists[1].map { (before: $0, after: $0) }
            let operands = ["x", "weight", "dy"].map { key -> Tensor in
                let array = tensors["\(name)/\(key)"]!
                feeds["\(name)/\(key)"] = .host(array)
                return Tensor.input("\(name)/\(key)", Shape(array.shape))
            }
            let y =
                parts[0] == "transposed"
                ? operands[0].transposedConvolution(
                    operands[1], stride: stride, padding: padding, outputPadding: stride.map { $0 - 1 },
                    dilation: dilation, groups: groups)
                : operands[0].convolution(
                    operands[1], stride: stride, padding: padding, dilation: dilation, groups: groups)
            outputs += [y] + (try gradients(of: (y * operands[2]).sum(), with: Array(operands[..<2])))
        }
        var devices: [any Device] = try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
        devices += KernelFamily.allCases.compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
        let schedule = try compile(outputs)
        for device in devices {
            let found = try device.load(schedule, maximumBatch: 1, states: [:]).run(feeds, batch: 1)
            for (index, array) in found.enumerated() {
                let key = names[index / 3] + "/" + ["y", "dx", "dweight"][index % 3]
                let expected = tensors[key]!
                let largest = expected.floats.map { abs($0) }.max() ?? 0
                let worst = zip(expected.floats, array.floats).map { abs($0 - $1) }.max() ?? 0
                #expect(
                    array.shape == expected.shape && worst <= 1e-5 * largest,
                    "\(key) on \(device.summary): \(worst / largest)")
            }
        }
    }
}
