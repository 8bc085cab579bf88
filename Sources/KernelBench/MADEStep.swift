import CPU
import Compiler
import Graph

/// The training step of a MADE (Germain et al. 2015) with Bernoulli outputs and Adam, as a schedule made by hand.
struct MADEStep {
    var schedule = Schedule()
    var states: [String: any DeviceBuffer] = [:]
    let device: CPUDevice
    private var rate = 0

    init(widths: [Int], batch: Int, device: CPUDevice) throws {
        self.device = device
        let dimensions = widths[0]
        let degrees = widths.enumerated().map { layer, width in
            (0..<width).map { Int32(layer == 0 || layer == widths.count - 1 ? $0 : $0 * (dimensions - 1) / width) }
        }
        let x = add([.batch, Extent(dimensions)], .input("x"))
        rate = add([1], .input("rate"))
        schedule.inputs = [x, rate]
        var layers: [(w: [Int], b: [Int], mask: MaskStructure)] = []
        for layer in 1..<widths.count {
            let isLast = layer == widths.count - 1
            layers.append(
                (
                    try (0..<3).map {
                        try state("w\(layer).\($0)", [Extent(widths[layer]), Extent(widths[layer - 1])], seed: $0 == 0)
                    },
                    try (0..<3).map { try state("b\(layer).\($0)", [Extent(widths[layer])], seed: false) },
                    .degrees(input: degrees[layer - 1], output: degrees[layer], strict: isLast)
                ))
        }
        // Forward.
        var activations = [x]
        var gradient = 0
        for layer in 1..<widths.count {
            let isLast = layer == widths.count - 1
            let (input, output) = (Extent(widths[layer - 1]), Extent(widths[layer]))
            let bias = Operand(.value(layers[layer - 1].b[0]), strides: [0, 1], element: .float32)
            let y = add([.batch, output])
            var program = Program(
                inputs: [.float32, .float32],
                instructions: [.init(.add, [0, 1], .float32), .init(.relu, [2], .float32)], outputs: [3])
            var inputs = [bias]
            var outputs = [whole(y)]
            if isLast {
                // z, then the terms of the loss and their gradient: softplus(z) - x z and (sigmoid(z) - x) / batch.
                gradient = add([.batch, output])
                program = Program(
                    inputs: [.float32, .float32, .float32], constants: [.init(1 / Double(batch), .float32)],
                    instructions: [
                        .init(.add, [0, 1], .float32), .init(.softplus, [4], .float32),
                        .init(.multiply, [2, 4], .float32),
                        .init(.subtract, [5, 6], .float32), .init(.sigmoid, [4], .float32),
                        .init(.subtract, [8, 2], .float32),
                        .init(.multiply, [9, 3], .float32),
                    ], outputs: [7, 10])
                inputs.append(whole(x))
                outputs.append(whole(gradient))
            }
            append(
                .product(
                    ProductGroup(
                        m: .batch, n: output, k: input, a: whole(activations[layer - 1]),
                        b: Operand(.value(layers[layer - 1].w[0]), strides: [1, input], element: .float32),
                        mask: ProductGroup.Mask(layers[layer - 1].mask, .forward), epilogueInputs: inputs,
                        epilogue: program,
                        outputs: outputs)), "forward \(layer)")
            activations.append(y)
        }
        let loss = add([.batch])
        append(
            .reduction(
                ReductionGroup(
                    kind: .sum, kept: [.batch], reduced: [Extent(dimensions)], inputs: [whole(activations.last!)],
                    prologue: .init(inputs: [.float32], outputs: [0]), epilogueInputs: [],
                    epilogue: .init(inputs: [.float32], outputs: [0]), outputs: [whole(loss)])), "loss")
        schedule.outputs = [loss]
        // Backward.
        for layer in (1..<widths.count).reversed() {
            let (input, output) = (Extent(widths[layer - 1]), Extent(widths[layer]))
            var next = 0
            if layer > 1 {
                next = add([.batch, input])
                append(
                    .product(
                        ProductGroup(
                            m: .batch, n: input, k: output, a: whole(gradient),
                            b: Operand(.value(layers[layer - 1].w[0]), strides: [input, 1], element: .float32),
                            mask: ProductGroup.Mask(layers[layer - 1].mask, .inputGradient),
                            epilogueInputs: [whole(activations[layer - 1])],
                            epilogue: Program(
                                inputs: [.float32, .float32], constants: [.init(0, .float32)],
                                instructions: [.init(.less, [2, 1], .bool), .init(.select, [3, 0, 2], .float32)],
                                outputs: [4]),
                            outputs: [whole(next)])), "input gradient \(layer)")
            }
            append(
                .product(
                    ProductGroup(
                        m: output, n: input, k: .batch,
                        a: Operand(.value(gradient), strides: [1, output], element: .float32),
                        b: whole(activations[layer - 1]),
                        mask: ProductGroup.Mask(layers[layer - 1].mask, .weightGradient, deadOutputsAreSettled: true),
                        epilogueInputs: layers[layer - 1].w.map { whole($0) }
                            + [Operand(.value(rate), strides: [0, 0], element: .float32)],
                        epilogue: Self.adam, outputs: layers[layer - 1].w.map { whole($0) })),
                "weight gradient \(layer)")
            append(
                .reduction(
                    ReductionGroup(
                        kind: .sum, kept: [output], reduced: [.batch],
                        inputs: [Operand(.value(gradient), strides: [1, output], element: .float32)],
                        prologue: .init(inputs: [.float32], outputs: [0]),
                        epilogueInputs: layers[layer - 1].b.map { whole($0) }
                            + [Operand(.value(rate), strides: [0], element: .float32)],
                        epilogue: Self.adam, outputs: layers[layer - 1].b.map { whole($0) })), "bias gradient \(layer)")
            gradient = next
        }
    }

    /// g, w, m, v, rate to w, m, v (Kingma & Ba 2015, algorithm 1, with the corrections folded into the rate).
    static let adam = Program(
        inputs: [.float32, .float32, .float32, .float32, .float32],
        constants: [0.9, 0.1, 0.999, 0.001, 1e-8].map { .init($0, .float32) },
        instructions: [
            .init(.multiply, [2, 5], .float32), .init(.multiply, [0, 6], .float32), .init(.add, [10, 11], .float32),
            .init(.multiply, [3, 7], .float32), .init(.multiply, [0, 0], .float32),
            .init(.multiply, [14, 8], .float32),
            .init(.add, [13, 15], .float32), .init(.sqrt, [16], .float32), .init(.add, [17, 9], .float32),
            .init(.divide, [12, 18], .float32), .init(.multiply, [19, 4], .float32),
            .init(.subtract, [1, 20], .float32),
        ], outputs: [21, 12, 16])

    private mutating func add(_ shape: Shape, _ storage: Value.Storage = .temporary) -> Int {
        schedule.values.append(Value(TensorType(shape), storage, label: "value \(schedule.values.count)"))
        return schedule.values.count - 1
    }

    private mutating func state(_ name: String, _ shape: Shape, seed: Bool) throws -> Int {
        let count = shape.count.coefficient
        let buffer = try device.makeBuffer(byteCount: 4 * count)
        if seed {
            let values = HostArray(
                (0..<count).map { (index: Int) -> Float in Float((index &* 7919) % 1001) / 20000 - 0.025 })
            try values.withUnsafeBytes { try buffer.write($0) }
        }
        states[name] = buffer
        let value = add(shape, .state(name))
        schedule.states.append(value)
        return value
    }

    private func whole(_ value: Int) -> Operand {
        Operand(.value(value), strides: schedule.values[value].type.shape.strides, element: .float32)
    }

    private mutating func append(_ kind: Group.Kind, _ label: String) {
        schedule.groups.append(Group(kind, label: label, location: nil))
    }
}
