import CPU
import Compiler
import Datasets
import Graph
import OpenCL
import Testing

/// Attention and its gradients against PyTorch's (Scripts/make_attention_goldens.py).
@Suite(.serialized) struct AttentionGoldenTests {
    @Test func agreesWithPyTorch() throws {
        let path = "\(#filePath)".split(separator: "/").dropLast().joined(separator: "/")
        let tensors = try SafeTensors.read("/\(path)/Goldens/attention.safetensors").arrays
        let names = Set(tensors.keys.map { String($0.prefix { $0 != "/" }) }).sorted()
        #expect(names.count == 28)
        var outputs: [Tensor] = []
        var feeds: [String: Feed] = [:]
        for name in names {
            let parts = name.split(separator: "-").map(String.init)
            let argument = Int(parts[1])!
            let pattern: AttentionPattern =
                switch parts[0] {
                case "all": .all
                case "causal": .causal
                case "prefix": .prefix(argument)
                case "window": .window(argument)
                case "strided": .strided(argument)
                case "row": .row(width: argument)
                default: .column(width: argument)
                }
            func operand(_ key: String) -> Tensor? {
                tensors["\(name)/\(key)"].map { array in
                    feeds["\(name)/\(key)"] = .host(array)
                    return Tensor.input("\(name)/\(key)", Shape(array.shape))
                }
            }
            let x = ["q", "k", "v"].map { operand($0)! }
            let y = Tensor.attention(x[0], x[1], x[2], pattern, counted: operand("keys"))
            outputs += [y] + (try gradients(of: (y * operand("dy")!).sum(), with: x))
        }
        var devices: [any Device] = try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
        devices += KernelFamily.allCases.compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
        let schedule = try compile(outputs)
        for device in devices {
            let found = try device.load(schedule, maximumBatch: 1, states: [:]).run(feeds, batch: 1)
            for (index, array) in found.enumerated() {
                let key = names[index / 4] + "/" + ["y", "dq", "dk", "dv"][index % 4]
                let expected = tensors[key]!
                let largest = expected.floats.map { abs($0) }.max() ?? 0
                let worst = zip(expected.floats, array.floats).map { abs($0 - $1) }.max() ?? 0
                // Of queries that read one key each the gradients are zero, and of ours rounding is left.
                #expect(
                    array.shape == expected.shape && worst <= 1e-5 * max(largest, 0.5),
                    "\(key) on \(device.summary): \(worst) of \(largest)")
            }
        }
    }
}
