import CPUKernels
import Compiler
import Graph

extension ConvolutionGroup: CPUGroup {
    public func makePlan(_ context: PlanContext) throws -> any GroupPlan { try ConvolutionPlan(self, context) }
}

/// A convolution or one of its gradients with its epilogue.
struct ConvolutionPlan: GroupPlan {
    let group: ConvolutionGroup
    let epilogue: CompiledProgram
    let walk: ConvolutionTaps
    let context: PlanContext
    var isDouble: Bool { group.a.element == .float64 }
    var isGradient: Bool { group.role == .weightGradient }

    init(_ group: ConvolutionGroup, _ context: PlanContext) throws(CPUError) {
        let rank = group.geometry.kernel.count + 2
        try context.check([group.a, group.b] + group.epilogueInputs + group.outputs, rank: rank)
        guard group.a.value != nil, group.b.value != nil, group.a.element == group.b.element,
            group.a.element.isFloatingPoint, group.epilogue.inputs.first == group.a.element
        else {
            throw context.unsupported(
                "a convolution wants two float32 or two float64 values and was given \(group.a.element) and \(group.b.element)"
            )
        }
        self.group = group
        self.context = context
        walk = ConvolutionTaps(group.geometry, group.mask, isTransposed: group.role == .inputGradient)
        epilogue = try context.compile(
            group.epilogue, inputs: [Int?](repeating: nil, count: group.sections) + group.epilogueInputs.map(\.value),
            outputs: group.outputs.map(\.value))
    }

    func bind(batch: Int) throws(CPUError) -> any BoundGroup { try BoundConvolution(self, batch: batch) }
}

private final class BoundConvolution: BoundGroup {
    private let plan: ConvolutionPlan
    private let memory = PlanMemory()
    private let convolution: UnsafeMutablePointer<martlet_convolution>
    var sharedBytes: Int { Int(convolution.pointee.sharedBytes) }
    var workBytes: Int { Int(convolution.pointee.workBytes) }

    init(_ plan: ConvolutionPlan, batch: Int) throws(CPUError) {
        self.plan = plan
        let a = ResolvedOperand(plan.group.a, batch: batch)
        let b = ResolvedOperand(plan.group.b, batch: batch)
        let planes = plan.isGradient ? b : a
        let tables = ConvolutionTables(
            plan.walk, instructionSet: plan.context.instructionSet, weightStrides: plan.isGradient ? nil : b.strides,
            sharesProducts: !plan.isDouble && planes.strides.last == 1)
        var value = martlet_convolution()
        Self.describe(plan, batch: batch, in: &value)
        Self.describe(tables, plan.walk, memory, in: &value)
        value.planesIn = planes.kernels
        if plan.isGradient {
            value.rowsIn = a.kernels
            value.planeModulus = 1
        } else {
            Self.describeWeight(b, plan.walk, in: &value)
        }
        Self.describeEpilogue(plan, batch: batch, memory, in: &value)
        martlet_convolution_plan(&value, Int32(plan.context.device.threads))
        convolution = memory.keep([value])
    }

    /// The role, and the extents of planes and rows.
    private static func describe(_ plan: ConvolutionPlan, batch: Int, in value: inout martlet_convolution) {
        let (group, walk) = (plan.group, plan.walk)
        value.isa = plan.context.instructionSet.kernels
        value.isWeightGradient = plan.isGradient ? 1 : 0
        value.isDouble = plan.isDouble ? 1 : 0
        value.rank = Int32(group.geometry.kernel.count)
        value.images = Int64(group.batch.resolved(batch: batch))
        value.planes = Int64(walk.planes)
        value.rows = Int64(walk.rows)
        value.groups = Int64(group.geometry.groups)
        value.source = triple(walk.source)
        value.result = triple(walk.result)
        value.sourceStep = triple(walk.sourceStep)
        value.resultStep = triple(walk.resultStep)
        value.leastShift = triple(walk.leastShift)
        value.greatestShift = triple(walk.greatestShift)
        value.rowLength = Int64(walk.planesPerGroup * group.geometry.tapCount)
        value.kernelTaps = Int64(group.geometry.tapCount)
    }

    /// What is visited, and room for what the plan finds for each step.
    private static func describe(
        _ tables: ConvolutionTables, _ walk: ConvolutionTaps, _ memory: PlanMemory, in value: inout martlet_convolution
    ) {
        value.tapCount = Int64(tables.taps.count)
        value.passCount = Int64(tables.passes.count)
        value.blockCount = Int64(tables.blocks.count)
        value.stepCount = Int64(tables.steps.count)
        value.formCount = Int64(tables.forms.count)
        value.taps = UnsafePointer(memory.keep(tables.taps))
        value.passes = UnsafePointer(memory.keep(tables.passes))
        value.blocks = memory.keep(tables.blocks)
        value.steps = UnsafePointer(memory.keep(tables.steps))
        value.forms = UnsafePointer(memory.keep(tables.forms))
        value.pairSteps = UnsafePointer(memory.keep(tables.pairSteps))
        value.copied = memory.keep([Int32](repeating: 0, count: tables.steps.count))
        value.direct = memory.keep([Int32](repeating: 0, count: tables.steps.count))
        if !tables.forms.isEmpty, value.rank == 2 {
            let vectors = (walk.source[0] * walk.source[1] / 2 + 15) / 16
            let reach = walk.greatestShift[1] - walk.leastShift[1] + 3
            value.lineMasks = memory.keep([Int32](repeating: 0, count: vectors * 16 * reach))
        }
    }

    private static func describeWeight(
        _ weight: ResolvedOperand, _ walk: ConvolutionTaps, in value: inout martlet_convolution
    ) {
        let (outputs, inputs) = (Int64(weight.strides[0]), Int64(weight.strides[1]))
        value.weight = weight.kernels
        // The rows of a transposed convolution are its inputs.
        (value.weightRow, value.weightPlane) = walk.isTransposed ? (inputs, outputs) : (outputs, inputs)
        value.planeModulus = Int64(walk.isTransposed ? walk.planes : walk.planesPerGroup)
    }

    /// The epilogue and its operands, with as few axes behind the rows as possible.
    private static func describeEpilogue(
        _ plan: ConvolutionPlan, batch: Int, _ memory: PlanMemory, in value: inout martlet_convolution
    ) {
        let group = plan.group
        // Behind the rows: spatial axes, or the planes and taps of a row of weights.
        let lead = plan.isGradient ? 1 : 2
        let shape = group.shape.map { $0.resolved(batch: batch) }
        let operands = (group.outputs + group.epilogueInputs).map { ResolvedOperand($0, batch: batch) }
        let inner = ResolvedAxes(Array(shape[lead...]), operands.map { Array($0.strides[lead...]) }, sorts: false)
        let isPoint = inner.extents.isEmpty
        let kernels = operands.enumerated().map { index, operand in
            operand.kernels(strides: operand.strides[..<lead] + (isPoint ? [0] : inner.strides[index]))
        }
        // The places of the result itself are not used.
        let unused = [martlet_operand](repeating: martlet_operand(), count: group.sections)
        value.epilogue = UnsafePointer(plan.epilogue.pointer)
        value.sections = Int32(group.sections)
        value.inputs = UnsafePointer(memory.keep(unused + kernels[group.outputs.count...]))
        value.outputs = UnsafePointer(memory.keep(Array(kernels[..<group.outputs.count])))
        value.innerRank = Int32(isPoint ? 1 : inner.extents.count)
        setExtents(&value.innerExtents, isPoint ? [1] : inner.extents)
    }

    func run(_ run: GroupRun) {
        withUnsafePointer(to: run.kernels) { martlet_convolution_run(convolution, $0, run.counts) }
    }
}
