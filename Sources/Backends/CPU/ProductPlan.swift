import CPUKernels
import Compiler
import Graph

extension ProductGroup.Role {
    var kernels: martlet_role {
        switch self {
        case .forward: MARTLET_FORWARD
        case .inputGradient: MARTLET_INPUT_GRADIENT
        case .weightGradient: MARTLET_WEIGHT_GRADIENT
        }
    }
}

/// A mask prepared for the kernels; shared by every batch size.
final class PreparedMask {
    /// `nil` for float64 products, which test every element.
    let pointer: OpaquePointer?
    let plain: UnsafeMutablePointer<martlet_plain_mask>
    private let memory = PlanMemory()

    init(_ mask: ProductGroup.Mask, inputs: Int, outputs: Int, isDouble: Bool, instructionSet: InstructionSet)
        throws(CPUError)
    {
        var simple = martlet_plain_mask()
        var made: OpaquePointer?
        switch mask.structure {
        case .degrees(let input, let output, let strict):
            let input = memory.keep(input)
            let output = memory.keep(output)
            simple.inputDegrees = UnsafePointer(input)
            simple.outputDegrees = UnsafePointer(output)
            simple.strict = strict ? 1 : 0
            if !isDouble {
                made = martlet_mask_create_constant(
                    instructionSet.kernels, mask.role.kernels, Int64(inputs), Int64(outputs), input, output,
                    strict ? 1 : 0)
            }
        case .runtime(let strict):
            simple.strict = strict ? 1 : 0
            if !isDouble {
                made = martlet_mask_create_degrees(
                    instructionSet.kernels, mask.role.kernels, Int64(inputs), Int64(outputs), strict ? 1 : 0)
            }
        case .matrix(let bits):
            let words = memory.keep(bits.words)
            simple.bits = UnsafePointer(words)
            simple.wordsPerRow = Int64(bits.wordsPerRow)
            if !isDouble {
                made = martlet_mask_create_matrix(
                    instructionSet.kernels, mask.role.kernels, Int64(inputs), Int64(outputs), words,
                    Int64(bits.wordsPerRow))
            }
        }
        guard isDouble || made != nil else {
            throw CPUError.outOfMemory(byteCount: inputs * outputs / 8, purpose: "a mask")
        }
        pointer = made
        plain = memory.keep([simple])
    }

    deinit { if let pointer { martlet_mask_destroy(pointer) } }
}

/// The packed form of a product's b that no run of its program changes, for every batch size: weights are packed again only where
/// they were written since.
final class PackedOperand {
    private let source: CPUBuffer
    private var packed: CPUBuffer?
    private var version: Int?

    init(_ source: CPUBuffer) { self.source = source }

    var byteCount: Int { packed?.byteCount ?? 0 }

    func memory(byteCount: Int) throws(CPUError) -> UnsafeMutablePointer<Float> {
        if packed == nil { packed = try CPUBuffer(byteCount: byteCount, purpose: "packed weights") }
        return packed!.pointer.assumingMemoryBound(to: Float.self)
    }

    /// Whether it is as the source is now, which it will be after the run that asks.
    func isCurrent() -> Bool {
        let now = source.version
        defer { version = now }
        return version == now
    }
}

struct ProductPlan: GroupPlan {
    let group: ProductGroup
    let epilogue: CompiledProgram
    let isDouble: Bool
    let context: PlanContext
    let mask: PreparedMask?
    let packedB: PackedOperand?

    var plannedBytes: Int { packedB?.byteCount ?? 0 }

    init(_ group: ProductGroup, _ context: PlanContext) throws(CPUError) {
        let rank = group.batch.count + 2
        try context.check([group.a, group.b] + group.epilogueInputs + group.outputs, rank: rank)
        guard group.a.value != nil, group.b.value != nil, group.a.element == group.b.element,
            group.a.element.isFloatingPoint, group.epilogue.inputs.first == group.a.element
        else {
            throw context.unsupported(
                "a product wants two float32 or two float64 values and was given \(group.a.element) and \(group.b.element)"
            )
        }
        self.group = group
        self.context = context
        isDouble = group.a.element == .float64
        let changes = if case .runtime = group.mask?.structure { true } else { !group.n.isStatic || !group.k.isStatic }
        packedB = changes || isDouble ? nil : context.unwritten[group.b.value!].map(PackedOperand.init)
        epilogue = try context.compile(
            group.epilogue, inputs: [nil] + group.epilogueInputs.map(\.value), outputs: group.outputs.map(\.value))
        if let mask = group.mask {
            let (inputs, outputs) = try Self.layerShape(group, mask, context)
            self.mask = try PreparedMask(
                mask, inputs: inputs, outputs: outputs, isDouble: group.a.element == .float64,
                instructionSet: context.instructionSet)
        } else {
            mask = nil
        }
    }

    /// Inputs and outputs of the masked layer, checked against the mask.
    private static func layerShape(
        _ group: ProductGroup, _ mask: ProductGroup.Mask, _ context: PlanContext
    ) throws(CPUError) -> (Int, Int) {
        let (inputs, outputs) =
            switch mask.role {
            case .forward: (group.k, group.n)
            case .inputGradient: (group.n, group.k)
            case .weightGradient: (group.n, group.m)
            }
        guard inputs.isStatic, outputs.isStatic else {
            throw CPUError.invalidSchedule("'\(context.group.label)' masks an axis that grows with the batch")
        }
        let sizes: (Int, Int)? =
            switch mask.structure {
            case .degrees(let input, let output, _): (input.count, output.count)
            case .matrix(let bits): (bits.columns, bits.rows)
            case .runtime: nil
            }
        if let sizes, sizes != (inputs.coefficient, outputs.coefficient) {
            throw CPUError.invalidSchedule(
                "'\(context.group.label)' has a mask of [\(sizes.1), \(sizes.0)] for a layer of [\(outputs), \(inputs)]"
            )
        }
        if case .runtime = mask.structure {
            guard let degrees = mask.runtimeDegrees, context.schedule.values.indices.contains(degrees.input),
                context.schedule.values.indices.contains(degrees.output),
                context.schedule.values[degrees.input].type == TensorType(Shape([inputs]), .int32),
                context.schedule.values[degrees.output].type == TensorType(Shape([outputs]), .int32)
            else {
                throw CPUError.invalidSchedule(
                    "'\(context.group.label)' needs run-time degrees int32[\(inputs)] and int32[\(outputs)]")
            }
        }
        return (inputs.coefficient, outputs.coefficient)
    }

    func bind(batch: Int) throws(CPUError) -> any BoundGroup { try BoundProduct(self, batch: batch) }
}

final class BoundProduct: BoundGroup {
    private let plan: ProductPlan
    private let memory = PlanMemory()
    private let product: UnsafeMutablePointer<martlet_product>
    let sharedBytes: Int
    let workBytes: Int

    init(_ plan: ProductPlan, batch: Int) throws(CPUError) {
        self.plan = plan
        let group = plan.group
        let a = ResolvedOperand(group.a, batch: batch)
        let b = ResolvedOperand(group.b, batch: batch)
        let others = (group.outputs + group.epilogueInputs).map { ResolvedOperand($0, batch: batch) }
        let rank = group.batch.count
        var m = group.m.resolved(batch: batch)
        let axes = ResolvedAxes(
            group.batch.map { $0.resolved(batch: batch) }, ([a, b] + others).map { Array($0.strides[..<rank]) },
            sorts: false)
        var batchExtents = axes.extents
        var operands = ([a, b] + others).enumerated().map { index, operand in
            var operand = operand
            operand.strides = axes.strides[index] + operand.strides[rank...]
            return operand
        }
        // Where every example meets the same b, the last batch axis is more rows.
        if group.mask?.role != .weightGradient, let last = batchExtents.indices.last, operands[1].strides[last] == 0,
            operands.indices.allSatisfy({ $0 == 1 || operands[$0].strides[last] == operands[$0].strides[last + 1] * m })
        {
            m *= batchExtents.removeLast()
            for index in operands.indices { operands[index].strides.remove(at: last) }
        }
        guard batchExtents.count + 2 <= Int(MARTLET_MAXIMUM_RANK) else {
            throw plan.context.unsupported("more than \(MARTLET_MAXIMUM_RANK - 2) batch axes that cannot be joined")
        }
        let kernels = operands.map(\.kernels)
        var runtime: (input: Int, output: Int)?
        if let mask = group.mask, case .runtime = mask.structure { runtime = mask.runtimeDegrees }
        var value = martlet_product()
        value.m = Int64(m)
        value.n = Int64(group.n.resolved(batch: batch))
        value.k = Int64(group.k.resolved(batch: batch))
        value.a = kernels[0]
        value.b = kernels[1]
        value.batchRank = Int32(batchExtents.count)
        setExtents(&value.batchExtents, batchExtents)
        value.isa = plan.context.instructionSet.kernels
        value.mask = plan.mask?.pointer
        value.role = (group.mask?.role ?? .forward).kernels
        value.deadStayZero = group.mask?.deadOutputsStayZero ?? false ? 1 : 0
        value.inputDegrees = runtime.map { Int32($0.input) } ?? -1
        value.outputDegrees = runtime.map { Int32($0.output) } ?? -1
        value.epilogue = UnsafePointer(plan.epilogue.pointer)
        // The place of the product itself is not used.
        value.inputs = UnsafePointer(memory.keep([martlet_operand()] + kernels[(2 + group.outputs.count)...]))
        value.outputs = UnsafePointer(memory.keep(Array(kernels[2..<(2 + group.outputs.count)])))
        if plan.isDouble {
            sharedBytes = 0
            workBytes = Int(martlet_double_product_work(&value))
        } else {
            value.keepsPackedB = plan.packedB == nil ? 0 : 1
            martlet_product_plan(&value, martlet_pool_threads(plan.context.pool), runtime == nil ? 0 : 1)
            sharedBytes = Int(value.sharedBytes)
            workBytes = Int(value.workBytes)
            if value.keepsPackedB != 0 { value.packedB = try plan.packedB?.memory(byteCount: Int(value.packedBBytes)) }
        }
        product = memory.keep([value])
    }

    func run(_ context: inout martlet_context, counts: UnsafeMutablePointer<Int64>) {
        guard plan.isDouble else {
            if product.pointee.keepsPackedB != 0, let packedB = plan.packedB {
                product.pointee.packedBIsCurrent = packedB.isCurrent() ? 1 : 0
            }
            martlet_product_run(product, &context, counts)
            return
        }
        if let mask = plan.mask, product.pointee.inputDegrees >= 0 {
            let values = context.values
            let degrees = { (value: Int32) in
                UnsafeRawPointer(values[Int(value)]!).assumingMemoryBound(to: Int32.self)
            }
            mask.plain.pointee.inputDegrees = degrees(product.pointee.inputDegrees)
            mask.plain.pointee.outputDegrees = degrees(product.pointee.outputDegrees)
        }
        martlet_double_product_run(product, plan.mask?.plain, &context, counts)
    }
}
