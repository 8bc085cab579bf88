import CPUKernels
import Compiler
import Graph

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

extension ProductGroup: CPUGroup {
    public func makePlan(_ context: PlanContext) throws -> any GroupPlan { try ProductPlan(self, context) }
}

/// A product with its mask and its epilogue.
struct ProductPlan: GroupPlan {
    let group: ProductGroup
    let epilogue: CompiledProgram
    let isDouble: Bool
    /// Whether the degrees of the mask are values of the program.
    let hasRuntimeDegrees: Bool
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
        hasRuntimeDegrees = if case .runtime = group.mask?.structure { true } else { false }
        let changes = hasRuntimeDegrees || !group.n.isStatic || !group.k.isStatic
        packedB = changes || isDouble ? nil : context.unwritten[group.b.value!].map(PackedOperand.init)
        epilogue = try context.compile(
            group.epilogue, inputs: [nil] + group.epilogueInputs.map(\.value), outputs: group.outputs.map(\.value))
        if let mask = group.mask {
            let (inputs, outputs) = try Self.layerShape(group, mask, context)
            self.mask = try PreparedMask(
                mask, inputs: inputs, outputs: outputs, isDouble: isDouble,
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

/// The extents and operands of a product for one batch size, with as few batch axes as possible.
private struct ResolvedProduct {
    var m: Int
    let n: Int
    let k: Int
    var batchExtents: [Int]
    /// a and b, the outputs, the epilogue's inputs.
    var operands: [ResolvedOperand]

    init(_ group: ProductGroup, batch: Int) {
        m = group.m.resolved(batch: batch)
        n = group.n.resolved(batch: batch)
        k = group.k.resolved(batch: batch)
        operands = ([group.a, group.b] + group.outputs + group.epilogueInputs).map {
            ResolvedOperand($0, batch: batch)
        }
        let rank = group.batch.count
        let axes = ResolvedAxes(
            group.batch.map { $0.resolved(batch: batch) }, operands.map { Array($0.strides[..<rank]) }, sorts: false)
        batchExtents = axes.extents
        for index in operands.indices {
            operands[index].strides = axes.strides[index] + operands[index].strides[rank...]
        }
        // The rows of a weight gradient are outputs of a layer, which a mask orders.
        if group.mask?.role != .weightGradient { turnExamplesIntoRows() }
    }

    /// Where every example meets the same b, the last batch axis is more rows: one product with taller blocks instead of many.
    private mutating func turnExamplesIntoRows() {
        guard let last = batchExtents.indices.last, operands[1].strides[last] == 0,
            operands.indices.allSatisfy({ $0 == 1 || operands[$0].strides[last] == operands[$0].strides[last + 1] * m })
        else { return }
        m *= batchExtents.removeLast()
        for index in operands.indices { operands[index].strides.remove(at: last) }
    }
}

private final class BoundProduct: BoundGroup {
    private let plan: ProductPlan
    private let memory = PlanMemory()
    private let product: UnsafeMutablePointer<martlet_product>
    let sharedBytes: Int
    let workBytes: Int

    init(_ plan: ProductPlan, batch: Int) throws(CPUError) {
        self.plan = plan
        let resolved = ResolvedProduct(plan.group, batch: batch)
        guard resolved.batchExtents.count + 2 <= Int(MARTLET_MAXIMUM_RANK) else {
            throw plan.context.unsupported("more than \(MARTLET_MAXIMUM_RANK - 2) batch axes that cannot be joined")
        }
        var value = martlet_product()
        Self.describe(resolved, plan, memory, in: &value)
        Self.describeMask(plan, in: &value)
        if plan.isDouble {
            sharedBytes = 0
            workBytes = Int(martlet_double_product_work(&value))
        } else {
            try Self.chooseBlocks(plan, of: &value)
            sharedBytes = Int(value.sharedBytes)
            workBytes = Int(value.workBytes)
        }
        product = memory.keep([value])
    }

    /// Extents, operands and the epilogue.
    private static func describe(
        _ resolved: ResolvedProduct, _ plan: ProductPlan, _ memory: PlanMemory, in value: inout martlet_product
    ) {
        let operands = resolved.operands.map(\.kernels)
        let outputs = operands[2...].prefix(plan.group.outputs.count)
        value.m = Int64(resolved.m)
        value.n = Int64(resolved.n)
        value.k = Int64(resolved.k)
        value.a = operands[0]
        value.b = operands[1]
        value.batchRank = Int32(resolved.batchExtents.count)
        setExtents(&value.batchExtents, resolved.batchExtents)
        value.isa = plan.context.instructionSet.kernels
        value.epilogue = UnsafePointer(plan.epilogue.pointer)
        // The place of the product itself is not used.
        value.inputs = UnsafePointer(memory.keep([martlet_operand()] + operands[outputs.endIndex...]))
        value.outputs = UnsafePointer(memory.keep(Array(outputs)))
    }

    private static func describeMask(_ plan: ProductPlan, in value: inout martlet_product) {
        let mask = plan.group.mask
        let degrees = plan.hasRuntimeDegrees ? mask?.runtimeDegrees : nil
        value.mask = plan.mask?.pointer
        value.role = (mask?.role ?? .forward).kernels
        value.deadStayZero = mask?.deadOutputsStayZero ?? false ? 1 : 0
        value.inputDegrees = degrees.map { Int32($0.input) } ?? -1
        value.outputDegrees = degrees.map { Int32($0.output) } ?? -1
    }

    /// Cuts the product into blocks, and finds memory for a b that stays packed from run to run.
    private static func chooseBlocks(_ plan: ProductPlan, of value: inout martlet_product) throws(CPUError) {
        value.keepsPackedB = plan.packedB == nil ? 0 : 1
        martlet_product_plan(&value, Int32(plan.context.device.threads), plan.hasRuntimeDegrees ? 1 : 0)
        if value.keepsPackedB != 0 { value.packedB = try plan.packedB?.memory(byteCount: Int(value.packedBBytes)) }
    }

    func run(_ run: GroupRun) {
        if plan.isDouble {
            runDouble(run)
            return
        }
        if product.pointee.keepsPackedB != 0, let packedB = plan.packedB {
            product.pointee.packedBIsCurrent = packedB.isCurrent() ? 1 : 0
        }
        withUnsafePointer(to: run.kernels) { martlet_product_run(product, $0, run.counts) }
    }

    private func runDouble(_ run: GroupRun) {
        if let mask = plan.mask, product.pointee.inputDegrees >= 0 {
            let degrees = { (value: Int32) in
                UnsafeRawPointer(run.pointer(to: Int(value))).assumingMemoryBound(to: Int32.self)
            }
            mask.plain.pointee.inputDegrees = degrees(product.pointee.inputDegrees)
            mask.plain.pointee.outputDegrees = degrees(product.pointee.outputDegrees)
        }
        withUnsafePointer(to: run.kernels) { martlet_double_product_run(product, plan.mask?.plain, $0, run.counts) }
    }
}
