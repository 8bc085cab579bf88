import CPUKernels
import Compiler
import Graph

/// What a convolution visits, in the tables that the C kernels walk: blocks of channels and, for each, the live pairs of a
/// plane and a tap. Shared by every batch size.
final class ConvolutionTables {
    let taps: [martlet_tap]
    let passes: [martlet_convolution_pass]
    let blocks: [martlet_convolution_block]
    let steps: [martlet_convolution_step]

    /// - Parameters:
    ///   - blockRows: channels of a block at most.
    ///   - weightStrides: over `[out, in / groups, kernel..]`; `nil` for a weight gradient.
    init(_ walk: ConvolutionTaps, blockRows: Int, weightStrides: [Int]?) {
        let positions = walk.geometry.kernel.reduce([[]]) { heads, extent in
            heads.flatMap { head in (0..<extent).map { head + [$0] } }
        }
        var builder = StepBuilder(walk)
        var taps: [martlet_tap] = []
        var passes: [martlet_convolution_pass] = []
        var blocks: [martlet_convolution_block] = []
        for pass in walk.passes {
            let firstTap = taps.count
            for tap in pass.taps {
                let place = weightStrides.map { strides in
                    zip(positions[tap.index], strides.dropFirst(2)).reduce(0) { $0 + $1.0 * $1.1 }
                }
                taps.append(
                    martlet_tap(
                        shift: triple(tap.shift), phase: triple(tap.phase), weight: Int64(place ?? 0),
                        index: Int64(tap.index)))
            }
            let firstBlock = blocks.count
            for group in 0..<walk.geometry.groups {
                let count = (walk.rowsPerGroup + blockRows - 1) / blockRows
                for index in 0..<count {
                    // Blocks of nearly equal size.
                    let first = group * walk.rowsPerGroup + walk.rowsPerGroup * index / count
                    let last = group * walk.rowsPerGroup + walk.rowsPerGroup * (index + 1) / count
                    let range = builder.add(pass, rows: first..<last, group: group, firstTap: firstTap)
                    // The rows of a transposed convolution are a group's inputs.
                    let row = walk.isTransposed ? first % walk.rowsPerGroup : first
                    let stride = weightStrides.map { walk.isTransposed ? $0[1] : $0[0] } ?? 0
                    blocks.append(
                        martlet_convolution_block(
                            first: Int32(first), rows: Int32(last - first), firstStep: Int64(range.lowerBound),
                            stepCount: Int64(range.count), weight: Int64(row * stride), packed: 0))
                }
            }
            passes.append(
                martlet_convolution_pass(
                    phase: triple(pass.phase), counts: triple(pass.counts), firstBlock: Int64(firstBlock),
                    blockCount: Int64(blocks.count - firstBlock)))
        }
        self.taps = taps
        self.passes = passes
        self.blocks = blocks
        steps = builder.steps
    }

    /// Lists of steps, each list once.
    private struct StepBuilder {
        struct Step: Hashable {
            var plane: Int32
            var tap: Int32
            var live: UInt64
        }

        let walk: ConvolutionTaps
        var steps: [martlet_convolution_step] = []
        private var known: [[Step]: Range<Int>] = [:]
        /// Without channel masks the blocks of a group read the same.
        private var byGroup: [[Int]: Range<Int>] = [:]

        init(_ walk: ConvolutionTaps) { self.walk = walk }

        mutating func add(_ pass: ConvolutionTaps.Pass, rows: Range<Int>, group: Int, firstTap: Int) -> Range<Int> {
            let key = [firstTap, pass.taps.count, group]
            if !walk.hasChannelMask, let range = byGroup[key] { return range }
            var list: [Step] = []
            for plane in group * walk.planesPerGroup..<(group + 1) * walk.planesPerGroup {
                for (index, tap) in pass.taps.enumerated() {
                    var live = UInt64.max
                    if walk.hasChannelMask {
                        live = 0
                        for row in rows where walk.isLive(row: row, plane: plane, tap: tap.index) {
                            live |= 1 << UInt64(row - rows.lowerBound)
                        }
                    }
                    if live != 0 { list.append(Step(plane: Int32(plane), tap: Int32(firstTap + index), live: live)) }
                }
            }
            let range: Range<Int>
            if let same = known[list] {
                range = same
            } else {
                range = steps.count..<steps.count + list.count
                steps += list.map { martlet_convolution_step(plane: $0.plane, tap: $0.tap, live: $0.live) }
                known[list] = range
            }
            byGroup[key] = range
            return range
        }
    }
}

private func triple(_ list: [Int]) -> (Int64, Int64, Int64) { (Int64(list[0]), Int64(list[1]), Int64(list[2])) }

struct ConvolutionPlan: GroupPlan {
    let group: ConvolutionGroup
    let epilogue: CompiledProgram
    let walk: ConvolutionTaps
    let context: PlanContext
    var isDouble: Bool { group.a.element == .float64 }

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

final class BoundConvolution: BoundGroup {
    private let plan: ConvolutionPlan
    private let memory = PlanMemory()
    private let convolution: UnsafeMutablePointer<martlet_convolution>
    var sharedBytes: Int { Int(convolution.pointee.sharedBytes) }
    var workBytes: Int { Int(convolution.pointee.workBytes) }

    init(_ plan: ConvolutionPlan, batch: Int) throws(CPUError) {
        self.plan = plan
        let (group, walk) = (plan.group, plan.walk)
        let isGradient = group.role == .weightGradient
        let a = ResolvedOperand(group.a, batch: batch)
        let b = ResolvedOperand(group.b, batch: batch)
        let level = plan.context.level.kernels
        let tables = ConvolutionTables(
            walk, blockRows: Int(martlet_convolution_block_rows(level, isGradient ? 1 : 0)),
            weightStrides: isGradient ? nil : b.strides)

        // Behind the rows: spatial axes, or the planes and taps of a row of weights.
        let lead = isGradient ? 1 : 2
        let shape = group.shape.map { $0.resolved(batch: batch) }
        var others = (group.outputs + group.epilogueInputs).map { ResolvedOperand($0, batch: batch) }
        let inner = ResolvedAxes(Array(shape[lead...]), others.map { Array($0.strides[lead...]) }, sorts: false)
        let innerExtents = inner.extents.isEmpty ? [1] : inner.extents
        for index in others.indices {
            others[index].strides =
                others[index].strides[..<lead] + (inner.extents.isEmpty ? [0] : inner.strides[index])
        }

        var value = martlet_convolution()
        value.level = level
        value.isWeightGradient = isGradient ? 1 : 0
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
        value.tapCount = Int64(tables.taps.count)
        value.passCount = Int64(tables.passes.count)
        value.blockCount = Int64(tables.blocks.count)
        value.stepCount = Int64(tables.steps.count)
        value.taps = UnsafePointer(memory.keep(tables.taps))
        value.passes = UnsafePointer(memory.keep(tables.passes))
        value.blocks = memory.keep(tables.blocks)
        value.steps = UnsafePointer(memory.keep(tables.steps))
        value.copied = memory.keep([Int32](repeating: 0, count: tables.steps.count))
        value.direct = memory.keep([Int32](repeating: 0, count: tables.steps.count))
        value.planesIn = (isGradient ? b : a).kernels
        value.rowLength = Int64(walk.planesPerGroup * group.geometry.tapCount)
        value.kernelTaps = Int64(group.geometry.tapCount)
        if isGradient {
            value.rowsIn = a.kernels
            value.planeModulus = 1
        } else {
            value.weight = b.kernels
            (value.weightRow, value.weightPlane) =
                walk.isTransposed
                ? (Int64(b.strides[1]), Int64(b.strides[0])) : (Int64(b.strides[0]), Int64(b.strides[1]))
            value.planeModulus = Int64(walk.isTransposed ? walk.planes : walk.planesPerGroup)
        }
        value.epilogue = UnsafePointer(plan.epilogue.pointer)
        value.sections = Int32(group.sections)
        let kernels = others.map(\.kernels)
        // The places of the result itself are not used.
        let unused = [martlet_operand](repeating: martlet_operand(), count: group.sections)
        value.inputs = UnsafePointer(memory.keep(unused + kernels[group.outputs.count...]))
        value.outputs = UnsafePointer(memory.keep(Array(kernels[..<group.outputs.count])))
        value.innerRank = Int32(innerExtents.count)
        setExtents(&value.innerExtents, innerExtents)
        martlet_convolution_plan(&value, martlet_pool_threads(plan.context.pool))
        convolution = memory.keep([value])
    }

    func run(_ context: inout martlet_context, counts: UnsafeMutablePointer<Int64>) {
        martlet_convolution_run(convolution, &context, counts)
    }
}
