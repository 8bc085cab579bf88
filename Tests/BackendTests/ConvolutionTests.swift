import Compiler
import Graph
import OpenCL
import Testing

@testable import CPU

/// Convolutions of random shapes, masks and views on every device against their definition.
@Suite(.serialized) struct ConvolutionTests {
    /// A stream of small numbers; its values are such that sums are rounded.
    struct Generator {
        var state: UInt64
        mutating func next(_ range: ClosedRange<Int>) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return range.lowerBound + Int(state >> 33) % range.count
        }
        mutating func values(_ shape: [Int]) -> Values {
            Values(
                shape: shape,
                elements: (0..<shape.reduce(1, *)).map { _ in Double(Float(next(-1_000_000...1_000_000)) / 1_000_000) })
        }
    }

    struct Configuration: CustomStringConvertible {
        var x: [Int]
        var weight: [Int]
        var stride: [Int]
        var padding: [(before: Int, after: Int)]
        var dilation: [Int]
        var groups: Int
        var mask: ConvolutionMask?
        var isTransposed: Bool
        /// Reads x backwards along the last axis and writes through a bias and an activation.
        var flips: Bool
        var description: String {
            "x \(x), weight \(weight), stride \(stride), padding \(padding), dilation \(dilation), groups \(groups), "
                + "mask \(mask.map { "\($0.liveTaps) of \($0.taps.count)" } ?? "none"), transposed \(isTransposed), flips \(flips)"
        }

        /// x `[batch, channels, ..]` and the weights to the result.
        func build(_ x: Tensor, _ weight: Tensor) -> Tensor {
            let x = flips ? x.flipped(axes: [x.shape.rank - 1]) : x
            if isTransposed {
                return x.transposedConvolution(
                    weight, stride: stride, padding: padding, outputPadding: stride.map { $0 - 1 }, dilation: dilation,
                    groups: groups, mask: mask)
            }
            return x.convolution(
                weight, stride: stride, padding: padding, dilation: dilation, groups: groups, mask: mask)
        }
    }

    static func configuration(_ g: inout Generator, largest: Int) -> Configuration {
        while true {
            let axes = g.next(1...3)
            let groups = [1, 1, 1, 2, 3][g.next(0...4)]
            let inputs = groups * g.next(1...largest), outputs = groups * g.next(1...largest)
            let most = [70, 20, 6][axes - 1]
            let extents = (0..<axes).map { _ in g.next(1...most) }
            let kernel = (0..<axes).map { _ in g.next(1...3) }
            let stride = (0..<axes).map { _ in [1, 1, 1, 2, 3][g.next(0...4)] }
            let padding = (0..<axes).map { _ in (before: g.next(-1...3), after: g.next(-1...3)) }
            let dilation = (0..<axes).map { _ in [1, 1, 2, 5][g.next(0...3)] }
            let isTransposed = g.next(0...3) == 0
            let first = isTransposed ? inputs : outputs, second = (isTransposed ? outputs : inputs) / groups
            var mask: ConvolutionMask?
            switch g.next(0...5) {
            case 0: mask = .causal(.b, kernel: kernel)
            case 1: mask = .causal(.a, kernel: kernel, outputs: first, inputs: second, channelGroups: 3)
            case 2:
                mask = ConvolutionMask(
                    taps: (0..<kernel.reduce(1, *)).map { _ in
                        let (a, b) = (g.next(1...5), g.next(1...5))
                        let bits = BitMatrix(rows: first, columns: second) { ($0 * a + $1 * b) % 4 < 2 }
                        return [.dead, .live, .channels(bits)][g.next(0...2)]
                    })
            default: break
            }
            let result = Configuration(
                x: [g.next(1...3), inputs] + extents, weight: [first, second] + kernel, stride: stride,
                padding: padding,
                dilation: dilation, groups: groups, mask: mask, isTransposed: isTransposed, flips: g.next(0...3) == 0)
            // Windows that do not fit are refused by the shape rule.
            let y = result.build(
                .input("x", Shape(result.x)), .input("w", Shape(result.weight)))
            if y.error == nil { return result }
        }
    }

    /// Forward, both gradients and a fused epilogue of several configurations, in one program for each device.
    @discardableResult private func check(
        _ configurations: [Configuration], seed: UInt64, devices: [any Device], element: ElementType
    ) throws -> Schedule {
        // The batch is a run-time extent, the same for all.
        let batch = configurations[0].x[0]
        var outputs: [Tensor] = []
        var bindings: [String: Values] = [:]
        var g = Generator(state: seed)
        for (index, configuration) in configurations.enumerated() {
            let shape = [batch] + configuration.x.dropFirst()
            let x = Tensor.input("x\(index)", Shape([.batch] + shape.dropFirst().map { Extent($0) }), element)
            let w = Tensor.input("w\(index)", Shape(configuration.weight), element)
            let y = configuration.build(x, w)
            let bias = Tensor.input(
                "b\(index)", Shape([y.shape[1]] + y.shape.dimensions.dropFirst(2).map { _ in 1 }), element)
            let dy = Tensor.input("d\(index)", y.shape, element)
            // The gradients are one group each: what is tested is not what surrounds a convolution.
            outputs += [(y + bias).relu()] + (try gradients(of: (y * dy).sum(), with: [x, w]))
            bindings["x\(index)"] = g.values(shape)
            bindings["w\(index)"] = g.values(configuration.weight)
            bindings["d\(index)"] = g.values(y.shape.resolved(batch: batch))
            bindings["b\(index)"] = g.values(bias.shape.resolved(batch: 1))
        }
        let expected = try Interpreter(batch: batch, bindings).run(outputs)
        let schedule = try compile(outputs)
        for device in devices {
            let executable = try device.load(schedule, maximumBatch: batch, states: [:])
            let found = try executable.run(bindings.mapValues { .host(HostArray($0, as: element)) }, batch: batch)
            for (index, (a, b)) in zip(expected, found).enumerated() {
                let largest = max(1e-3, a.elements.map { abs($0) }.max() ?? 0)
                let worst = zip(a.elements, b.doubles).map { abs($0 - $1) }.max() ?? 0
                #expect(
                    worst <= (element == .float64 ? 1e-12 : 1e-5) * largest && b.shape == a.shape,
                    """
                    \(["forward", "input gradient", "weight gradient"][index % 3]) on \(device.summary): \(worst / largest) \
                    of the largest; \(configurations[index / 3])
                    """)
            }
        }
        return schedule
    }

    @Test func processorAgreesWithTheDefinition() throws {
        let devices = try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
        var g = Generator(state: 11)
        for index in 0..<200 {
            let configuration = Self.configuration(&g, largest: index % 10 == 0 ? 75 : 12)
            try check([configuration], seed: UInt64(index + 1), devices: devices, element: .float32)
        }
        for index in 0..<40 {
            let configuration = Self.configuration(&g, largest: 6)
            try check([configuration], seed: UInt64(index + 1), devices: [devices[0]], element: .float64)
        }
    }

    /// In which of a schedule's convolutions neighbouring pixels share products.
    private static func pairs(_ schedule: Schedule, _ instructionSet: InstructionSet) -> [Convolution.Role: Bool] {
        var result: [Convolution.Role: Bool] = [:]
        for group in schedule.groups.compactMap({ $0.kind as? ConvolutionGroup }) {
            let walk = ConvolutionTaps(group.geometry, group.mask, isTransposed: group.role == .inputGradient)
            let strides = [Int](repeating: 1, count: group.geometry.kernel.count + 2)
            let tables = ConvolutionTables(
                walk, instructionSet: instructionSet, weightStrides: group.role == .weightGradient ? nil : strides,
                sharesProducts: true)
            result[group.role] = !tables.forms.isEmpty
        }
        return result
    }

    /// Shapes whose neighbouring pixels share products: many channels, runs of one to seven taps along the last axis that start at
    /// even and odd distances, with holes in them and masks of channels across them, lines of even and odd length that change or keep
    /// it.
    private static func pairedConfiguration(_ g: inout Generator) -> Configuration {
        while true {
            let axes = g.next(2...3)
            let groups = g.next(0...4) == 0 ? 2 : 1
            // Of few inputs or few outputs, one role pays only.
            let (inputs, outputs) =
                switch g.next(0...3) {
                case 0: (groups * g.next(3...20), groups * g.next(40...90))
                case 1: (groups * g.next(40...90), groups * g.next(3...20))
                default: (groups * g.next(40...90), groups * g.next(40...90))
                }
            var extents = (0..<axes).map { $0 == axes - 1 ? g.next(7...37) : g.next(1...[9, 4][axes - 2]) }
            let kernel = (0..<axes).map { $0 == axes - 1 ? g.next(2...7) : g.next(1...[3, 2][axes - 2]) }
            var padding = (0..<axes).map { _ in (before: g.next(-1...4), after: g.next(-1...4)) }
            if g.next(0...1) == 0 {
                extents[axes - 1] = extents[axes - 1] / 2 * 2
                let before = g.next(0...kernel[axes - 1] - 1)
                padding[axes - 1] = (before: before, after: kernel[axes - 1] - 1 - before)
            }
            var mask: ConvolutionMask?
            switch g.next(0...5) {
            case 0: mask = .causal(.b, kernel: kernel)
            case 1: mask = .causal(.b, kernel: kernel, outputs: outputs, inputs: inputs / groups, channelGroups: 3)
            case 2:
                let bits = BitMatrix(rows: outputs, columns: inputs / groups) { ($0 / 16 + $1) % 3 < 2 }
                mask = ConvolutionMask(
                    taps: (0..<kernel.reduce(1, *)).map { _ in
                        [.dead, .live, .live, .channels(bits), .channels(bits)][g.next(0...4)]
                    })
            default: break
            }
            let result = Configuration(
                x: [g.next(1...3), inputs] + extents, weight: [outputs, inputs / groups] + kernel,
                stride: [Int](repeating: 1, count: axes), padding: padding, dilation: [Int](repeating: 1, count: axes),
                groups: groups, mask: mask, isTransposed: false, flips: false)
            if result.build(.input("x", Shape(result.x)), .input("w", Shape(result.weight))).error == nil {
                return result
            }
        }
    }

    @Test func pairsAgreeWithTheDefinition() throws {
        let devices = try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
        var g = Generator(state: 31)
        var paired: [Convolution.Role: Int] = [:]
        for index in 0..<100 {
            let configuration = Self.pairedConfiguration(&g)
            let schedule = try check([configuration], seed: UInt64(index + 1), devices: devices, element: .float32)
            for instructionSet in InstructionSet.available {
                for case (let role, true) in Self.pairs(schedule, instructionSet) { paired[role, default: 0] += 1 }
            }
        }
        // Many do, for every width of vectors.
        for role in [Convolution.Role.forward, .inputGradient, .weightGradient] {
            #expect(paired[role, default: 0] >= 30 * devices.count, "\(role): \(paired[role, default: 0])")
        }
    }

    /// Images of few pixels, which are walked several together: against the definition, and every image's result is that of the image
    /// alone, to the bit, whatever numbers its neighbours have.
    @Test func smallImagesAgreeWithTheDefinition() throws {
        let devices = try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
        var g = Generator(state: 41)
        for index in 0..<60 {
            let batch = g.next(2...11)
            let kernel = [g.next(1...3), g.next(1...3)]
            let padding = kernel.map { (before: g.next(0...$0), after: g.next(0...$0)) }
            let (inputs, outputs) = (g.next(1...40), g.next(8...70))
            let masks = [nil, nil, ConvolutionMask.causal(.b, kernel: kernel)]
            let configuration = Configuration(
                x: [batch, inputs, g.next(2...6), index % 2 == 0 ? 4 : g.next(2...7)],
                weight: [outputs, inputs] + kernel,
                stride: [1, 1], padding: padding, dilation: [1, g.next(1...2)], groups: 1, mask: masks[g.next(0...2)],
                isTransposed: false, flips: false)
            let x = Tensor.input("x", Shape([.batch] + configuration.x.dropFirst().map { Extent($0) }))
            let y = configuration.build(x, .input("w", Shape(configuration.weight)))
            if y.error != nil { continue }
            try check([configuration], seed: UInt64(index + 1), devices: devices, element: .float32)
            let schedule = try compile([y])
            let weight = HostArray(g.values(configuration.weight), as: .float32)
            let values = g.values(configuration.x)
            for device in devices {
                let executable = try device.load(schedule, maximumBatch: batch, states: [:])
                let size = values.elements.count / batch, image = g.next(0...batch - 1)
                let slice = Array(values.elements[image * size..<(image + 1) * size])
                let alone = try executable.run(
                    [
                        "x": .host(
                            HostArray(Values(shape: [1] + configuration.x.dropFirst(), elements: slice), as: .float32)),
                        "w": .host(weight),
                    ], batch: 1)[0]
                var others = values
                for i in values.elements.indices where i / size != image {
                    others.elements[i] = i % 2 == 0 ? .nan : 1e30
                }
                let together = try executable.run(
                    ["x": .host(HostArray(others, as: .float32)), "w": .host(weight)], batch: batch)[0]
                let count = alone.doubles.count
                #expect(
                    alone.doubles == Array(together.doubles[image * count..<(image + 1) * count]),
                    "image \(image) of \(configuration)")
            }
        }
    }

    /// Where pairs of pixels share products, a masked result still has nothing to do with what its taps do not reach: the bits stay when
    /// that changes, to whatever number.
    @Test func pairsKeepMasksExact() throws {
        for instructionSet in InstructionSet.available {
            for (kernel, padding, width, inputs, outputs) in [
                ([3, 3], [(1, 1), (1, 1)], 28, 64, 64), ([1, 2], [(0, 0), (1, 0)], 33, 128, 256),
                ([3, 7], [(1, 1), (3, 3)], 17, 64, 64),
            ] {
                let count = 3 * width
                let mask = kernel[1] % 2 == 1 ? ConvolutionMask.causal(.b, kernel: kernel) : nil
                let x = Tensor.input("x", [.batch, Extent(inputs), 3, Extent(width)])
                let y = x.convolution(
                    .input("w", Shape([outputs, inputs] + kernel)),
                    padding: padding.map { (before: $0.0, after: $0.1) },
                    mask: mask)
                let schedule = try compile([y])
                #expect(Self.pairs(schedule, instructionSet) == [.forward: true])
                let executable = try CPUDevice(threads: 2, instructionSet: instructionSet).load(
                    schedule, maximumBatch: 1, states: [:])
                var g = Generator(state: 3)
                let weight = HostArray(g.values([outputs, inputs] + kernel), as: .float32)
                let values = g.values([1, inputs, 3, width])
                let first = try executable.run(
                    ["x": .host(HostArray(values, as: .float32)), "w": .host(weight)], batch: 1)[0]
                for pixel in 0..<count {
                    var changed = values
                    for channel in 0..<inputs {
                        changed.elements[channel * count + pixel] = pixel % 2 == 0 ? .nan : 1e30
                    }
                    let second = try executable.run(
                        ["x": .host(HostArray(changed, as: .float32)), "w": .host(weight)], batch: 1)[0]
                    for (index, (a, b)) in zip(first.doubles, second.doubles).enumerated() where index % count < pixel {
                        #expect(a == b, "\(kernel): \(index % count) depends on \(pixel)")
                    }
                }
            }
        }
    }

    /// Both families of kernels.
    @Test func openCLAgreesWithTheDefinition() throws {
        let devices = [KernelFamily.gpu, .cpu].compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
        var g = Generator(state: 12)
        // One program: building it takes longer than running it.
        try check(
            (0..<200).map { Self.configuration(&g, largest: $0 % 20 == 0 ? 75 : 12) }, seed: 1, devices: devices,
            element: .float32)
    }

    /// Gates that are part of their convolution's group, with halves that fill no tile, what is computed between the two, and whoever
    /// reads both halves together; an input's gradient reads what the group has written.
    @Test func gatesAgreeWithTheDefinition() throws {
        var devices: [any Device] = try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
        devices += [KernelFamily.gpu, .cpu].compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
        let double = [try CPUDevice(threads: 2)]
        var g = Generator(state: 21)
        var outputs: [ElementType: [Tensor]] = [:]
        var bindings: [String: Values] = [:]
        for index in 0..<60 {
            var configuration = Self.configuration(&g, largest: index % 15 == 0 ? 75 : 12)
            while configuration.isTransposed || configuration.groups > 1 || configuration.weight[0] % 2 == 1 {
                configuration = Self.configuration(&g, largest: index % 15 == 0 ? 75 : 12)
            }
            let element: ElementType = index % 6 == 5 ? .float64 : .float32
            let shape = [2] + configuration.x.dropFirst()
            let x = Tensor.input("x\(index)", Shape([.batch] + shape.dropFirst().map { Extent($0) }), element)
            let w = Tensor.input("w\(index)", Shape(configuration.weight), element)
            let ones = [Extent](repeating: 1, count: configuration.weight.count - 2)
            let (channels, half) = (configuration.weight[0], configuration.weight[0] / 2)
            let bias = Tensor.input("b\(index)", Shape([Extent(channels)] + ones), element)
            let v = configuration.build(x, w) + bias
            let gate =
                v.sliced(axis: 1, from: 0, count: half).tanh() * v.sliced(axis: 1, from: half, count: half).sigmoid()
            let u = Tensor.input("u\(index)", Shape([3, Extent(channels)] + ones), element)
            let dy = Tensor.input("d\(index)", gate.shape, element)
            let across = v.convolution(u)
            outputs[element, default: []] +=
                [gate] + (index % 2 == 0 ? [across] : [])
                + (try gradients(of: (gate * dy).sum() + across.sum() * 0.125, with: [w]))
            for tensor in [x, w, bias, u, dy] {
                bindings[tensor.placeholder!.label] = g.values(tensor.shape.resolved(batch: 2))
            }
        }
        for (element, outputs) in outputs {
            let expected = try Interpreter(batch: 2, bindings).run(outputs)
            let schedule = try compile(outputs)
            let sections = schedule.groups.count {
                ($0.kind as? ConvolutionGroup)?.sections == 2
            }
            #expect(sections == (element == .float64 ? 10 : 50))
            for device in element == .float64 ? double : devices {
                let executable = try device.load(schedule, maximumBatch: 3, states: [:])
                let found = try executable.run(
                    bindings.filter { name, _ in schedule.inputs.contains { schedule.values[$0].label == name } }
                        .mapValues { .host(HostArray($0, as: element)) }, batch: 2)
                for (index, (a, b)) in zip(expected, found).enumerated() {
                    let largest = max(1e-3, a.elements.map { abs($0) }.max() ?? 0)
                    let worst = zip(a.elements, b.doubles).map { abs($0 - $1) }.max() ?? 0
                    #expect(
                        worst <= (element == .float64 ? 1e-12 : 1e-5) * largest && b.shape == a.shape,
                        "output \(index) on \(device.summary): \(worst / largest) of the largest")
                }
            }
        }
    }

    /// The same bits for one thread or several, and for an example alone or in a batch.
    @Test func bitsDoNotDependOnThreads() throws {
        var g = Generator(state: 5)
        for index in 0..<12 {
            var configuration = Self.configuration(&g, largest: 40)
            configuration.x[0] = 5
            let x = Tensor.input("x", Shape([.batch] + configuration.x.dropFirst().map { Extent($0) }))
            let w = Tensor.input("w", Shape(configuration.weight))
            let y = configuration.build(x, w)
            let schedule = try compile([y] + gradients(of: (y * y).sum(), with: [x, w]))
            var values = Generator(state: UInt64(index + 1))
            let bindings = [
                "x": HostArray(values.values(configuration.x), as: .float32),
                "w": HostArray(values.values(configuration.weight), as: .float32),
            ]
            var results: [[HostArray]] = []
            for threads in [1, 2, 3] {
                let executable = try CPUDevice(threads: threads).load(schedule, maximumBatch: 5, states: [:])
                results.append(try executable.run(bindings.mapValues { .host($0) }, batch: 5))
            }
            #expect(results[0] == results[1] && results[0] == results[2], "\(configuration)")
            let alone = try CPUDevice(threads: 2).load(schedule, maximumBatch: 1, states: [:])
                .run(["x": .host(bindings["x"]!.rows(3..<4)), "w": .host(bindings["w"]!)], batch: 1)
            #expect(alone[0] == results[0][0].rows(3..<4) && alone[1] == results[0][1].rows(3..<4), "\(configuration)")
        }
    }

    /// What is dead is not multiplied.
    @Test func deadTapsCostNothing() throws {
        let device = try CPUDevice(threads: 2)
        func executed(_ mask: ConvolutionMask?, role: Int) throws -> Int {
            let (x, w) = (Tensor.input("x", [.batch, 64, 28, 28]), Tensor.input("w", [64, 64, 3, 3]))
            let y = x.convolution(w, padding: [(1, 1), (1, 1)], mask: mask)
            let all = [y] + (try gradients(of: (y * .input("dy", y.shape)).sum(), with: [x, w]))
            let executable = try device.load(compile([all[role]]), maximumBatch: 2, states: [:]) as! CPUExecutable
            var feeds: [String: Feed] = [:]
            for id in executable.schedule.inputs {
                let value = executable.schedule.values[id]
                feeds[value.label] = .host(HostArray(type: .float32, shape: value.type.shape.resolved(batch: 2)))
            }
            executable.resetCounters()
            _ = try executable.run(feeds, batch: 2)
            return executable.executedMultiplyAdds
        }
        let colours = ConvolutionMask.causal(.a, kernel: [3, 3], outputs: 64, inputs: 64, channelGroups: 2)
        for role in 0..<3 {
            let dense = try executed(nil, role: role)
            // Pairs of pixels share products: two a pixel for three neighbouring taps, one and a half for two.
            let each = 2 * 784 * 64 * 64
            #expect(dense == each * 6)
            #expect(try executed(.causal(.b, kernel: [3, 3]), role: role) == each * 7 / 2)
            // Half of the outputs read half of the inputs at the centre: a quarter of a tap, where blocks are whole.
            #expect(try executed(colours, role: role) <= (role == 2 ? each * 9 / 2 : each * 17 / 4))
        }
    }
}
