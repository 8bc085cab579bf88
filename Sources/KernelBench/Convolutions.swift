import CPU
import Compiler
import Graph
import OpenCL

/// One convolution in its three roles: `[batch, in, spatial..]` to `out` channels.
struct ConvolutionCase {
    var name: String
    var batch: Int
    var channels: (input: Int, output: Int)
    var extents: [Int]
    var kernel: [Int]
    var padding: [(before: Int, after: Int)] = []
    var stride: [Int] = []
    var dilation: [Int] = []
    var groups = 1
    var mask: ConvolutionMask? = nil

    static let all: [ConvolutionCase] = {
        let same3 = [(before: 1, after: 1), (before: 1, after: 1)]
        let same7 = [(before: 3, after: 3), (before: 3, after: 3)]
        var list = [
            ConvolutionCase(
                name: "dense 3x3 64-64", batch: 64, channels: (64, 64), extents: [28, 28], kernel: [3, 3],
                padding: same3),
            ConvolutionCase(
                name: "mask B 3x3 64-64", batch: 64, channels: (64, 64), extents: [28, 28], kernel: [3, 3],
                padding: same3, mask: .causal(.b, kernel: [3, 3])),
            ConvolutionCase(
                name: "1x1 128-64", batch: 32, channels: (128, 64), extents: [28, 28], kernel: [1, 1]),
            ConvolutionCase(
                name: "mask A 7x7 1-128", batch: 32, channels: (1, 128), extents: [28, 28], kernel: [7, 7],
                padding: same7, mask: .causal(.a, kernel: [7, 7])),
            ConvolutionCase(
                name: "2x3 128-256", batch: 16, channels: (128, 256), extents: [28, 28], kernel: [2, 3],
                padding: [(before: 1, after: 0), (before: 1, after: 1)]),
            ConvolutionCase(
                name: "glow 3x3 12-128", batch: 16, channels: (12, 128), extents: [16, 16], kernel: [3, 3],
                padding: same3),
            ConvolutionCase(
                name: "glow 1x1 128-128", batch: 16, channels: (128, 128), extents: [16, 16], kernel: [1, 1]),
            ConvolutionCase(
                name: "stride 2 3x3 64-64", batch: 32, channels: (64, 64), extents: [32, 32], kernel: [3, 3],
                padding: same3, stride: [2, 2]),
            ConvolutionCase(
                name: "depthwise 3x3 128", batch: 16, channels: (128, 128), extents: [28, 28], kernel: [3, 3],
                padding: same3, groups: 128),
            ConvolutionCase(
                name: "batch 1 3x3 64-64", batch: 1, channels: (64, 64), extents: [28, 28], kernel: [3, 3],
                padding: same3),
        ]
        for (input, output) in [(64, 64), (256, 256), (1280, 256)] {
            list.append(
                ConvolutionCase(
                    name: "1d 1x1 \(input)-\(output)", batch: 1, channels: (input, output), extents: [8000], kernel: [1]
                ))
        }
        for dilation in [1, 32, 512] {
            list.append(
                ConvolutionCase(
                    name: "1d dilation \(dilation) 64-128", batch: 1, channels: (64, 128), extents: [8000], kernel: [2],
                    padding: [(before: dilation, after: 0)], dilation: [dilation]))
        }
        return list
    }()
}

extension KernelBench {
    /// Each role of each case, on any device; the CPU counts what it executes. With `only`, cases whose names contain one of these.
    static func convolutions(_ device: any Device, only: [String]) throws {
        for test in ConvolutionCase.all where only.isEmpty || only.contains(where: test.name.contains) {
            let x = Tensor.state("x", Shape([test.batch, test.channels.input] + test.extents))
            let w = Tensor.state("w", Shape([test.channels.output, test.channels.input / test.groups] + test.kernel))
            let y = x.convolution(
                w, stride: test.stride, padding: test.padding, dilation: test.dilation, groups: test.groups,
                mask: test.mask)
            let dy = Tensor.state("dy", y.shape)
            let grads = try gradients(of: (y * dy).sum(), with: [x, w])
            let dense = y.shape.count.coefficient * w.shape.count.coefficient / test.channels.output
            for (role, result) in zip(Convolution.Role.allCases, [y] + grads) {
                try show("\(test.name), batch \(test.batch), \(role)", measure(result, on: device), dense: dense)
            }
        }
    }
}
