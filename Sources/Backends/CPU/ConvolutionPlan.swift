import CPUKernels
import Compiler
import Graph

/// What a convolution visits, in the tables that the C kernels walk: blocks of channels and, for each, the live pairs of a
/// plane and a tap. Shared by every batch size.
struct ConvolutionTables {
    private(set) var taps: [martlet_tap] = []
    private(set) var passes: [martlet_convolution_pass] = []
    private(set) var blocks: [martlet_convolution_block] = []
    private(set) var steps: [martlet_convolution_step] = []
    /// Where neighbouring pixels share products: the forms of a plane, and what each step reads and is weighted with.
    private(set) var forms: [martlet_pair_form] = []
    private(set) var pairSteps: [martlet_pair_step] = []

    /// - Parameters:
    ///   - instructionSet: whose tiles decide how many channels a block has.
    ///   - weightStrides: over `[out, in / groups, kernel..]`; `nil` for a weight gradient.
    ///   - sharesProducts: whether pairs of pixels may share products where that pays.
    init(_ walk: ConvolutionTaps, instructionSet: InstructionSet, weightStrides: [Int]?, sharesProducts: Bool) {
        let blockRows = Int(martlet_convolution_block_rows(instructionSet.kernels, weightStrides == nil ? 1 : 0))
        let positions = walk.geometry.kernel.reduce([[]]) { heads, extent in
            heads.flatMap { head in (0..<extent).map { head + [$0] } }
        }
        var lists: [[StepList]] = []
        var blockRanges: [(first: Int, last: Int)] = []
        for pass in walk.passes {
            var builder = StepBuilder(walk, pass, firstTap: taps.count)
            for tap in pass.taps {
                let place = weightStrides.map { strides in
                    zip(positions[tap.index], strides.dropFirst(2)).reduce(0) { $0 + $1.0 * $1.1 }
                }
                taps.append(
                    martlet_tap(
                        shift: triple(tap.shift), phase: triple(tap.phase), weight: Int64(place ?? 0),
                        index: Int64(tap.index)))
            }
            blockRanges = []
            lists.append([])
            for group in 0..<walk.geometry.groups {
                let count = (walk.rowsPerGroup + blockRows - 1) / blockRows
                for index in 0..<count {
                    // Blocks of nearly equal size.
                    let first = group * walk.rowsPerGroup + walk.rowsPerGroup * index / count
                    let last = group * walk.rowsPerGroup + walk.rowsPerGroup * (index + 1) / count
                    blockRanges.append((first, last))
                    lists[lists.count - 1].append(builder.list(rows: first..<last, group: group))
                }
            }
        }
        var counts = walk.passes.map(\.counts)
        var phases = walk.passes.map(\.phase)
        if sharesProducts,
            let pairs = PairedConvolution(walk, lists: lists, taps: taps, isWeightGradient: weightStrides == nil)
        {
            lists = pairs.lists
            forms = pairs.forms.map {
                martlet_pair_form(first: Int32($0.first), second: Int32($0.second), sign: Int32($0.sign))
            }
            let inner = walk.geometry.kernel.count - 1
            counts[0][inner] = (counts[0][inner] + 1) / 2
            counts = [[Int]](repeating: counts[0], count: lists.count)
            phases = [[Int]](repeating: phases[0], count: lists.count)
        }
        // Each list once.
        var known: [StepList: Int] = [:]
        for (index, list) in lists.enumerated() {
            let firstBlock = blocks.count
            for (range, steps) in zip(blockRanges, list) {
                if known[steps] == nil {
                    known[steps] = self.steps.count
                    self.steps += steps.steps.map {
                        martlet_convolution_step(plane: $0.plane, tap: $0.tap, live: $0.live)
                    }
                    pairSteps += steps.steps.compactMap { $0.pair?.kernels }
                }
                // The rows of a transposed convolution are a group's inputs.
                let row = walk.isTransposed ? range.first % walk.rowsPerGroup : range.first
                let stride = weightStrides.map { walk.isTransposed ? $0[1] : $0[0] } ?? 0
                blocks.append(
                    martlet_convolution_block(
                        first: Int32(range.first), rows: Int32(range.last - range.first),
                        firstStep: Int64(known[steps]!),
                        stepCount: Int64(steps.steps.count), weight: Int64(row * stride), packed: 0))
            }
            passes.append(
                martlet_convolution_pass(
                    phase: triple(phases[index]), counts: triple(counts[index]), firstBlock: Int64(firstBlock),
                    blockCount: Int64(blocks.count - firstBlock)))
        }
    }
}

/// What a block visits, in order. Lists that many blocks share are one object.
final class StepList: Hashable {
    struct Step: Hashable {
        var plane: Int32
        var tap: Int32
        var live: UInt64
        var pair: PairedConvolution.Reading? = nil
    }

    let steps: [Step]
    /// Lists are long, and looked up once for every block.
    private let number: Int
    init(_ steps: [Step]) {
        self.steps = steps
        number = steps.hashValue
    }
    static func == (a: StepList, b: StepList) -> Bool {
        a === b || (a.number == b.number && a.steps == b.steps)
    }
    func hash(into hasher: inout Hasher) { hasher.combine(number) }
}

/// The lists of one pass.
private struct StepBuilder {
    let walk: ConvolutionTaps
    let pass: ConvolutionTaps.Pass
    let firstTap: Int
    /// Without channel masks the blocks of a group read the same.
    private var byGroup: [Int: StepList] = [:]

    init(_ walk: ConvolutionTaps, _ pass: ConvolutionTaps.Pass, firstTap: Int) {
        self.walk = walk
        self.pass = pass
        self.firstTap = firstTap
    }

    mutating func list(rows: Range<Int>, group: Int) -> StepList {
        if !walk.hasChannelMask, let list = byGroup[group] { return list }
        var steps: [StepList.Step] = []
        for plane in group * walk.planesPerGroup..<(group + 1) * walk.planesPerGroup {
            for (index, tap) in pass.taps.enumerated() {
                var live = UInt64.max
                if walk.hasChannelMask {
                    live = 0
                    for row in rows where walk.isLive(row: row, plane: plane, tap: tap.index) {
                        live |= 1 << UInt64(row - rows.lowerBound)
                    }
                }
                if live != 0 {
                    steps.append(StepList.Step(plane: Int32(plane), tap: Int32(firstTap + index), live: live))
                }
            }
        }
        let list = StepList(steps)
        byGroup[group] = list
        return list
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
        let planes = isGradient ? b : a
        let tables = ConvolutionTables(
            walk, instructionSet: plan.context.instructionSet, weightStrides: isGradient ? nil : b.strides,
            sharesProducts: !plan.isDouble && planes.strides.last == 1)

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
        value.isa = plan.context.instructionSet.kernels
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
        value.formCount = Int64(tables.forms.count)
        value.forms = UnsafePointer(memory.keep(tables.forms))
        value.pairSteps = UnsafePointer(memory.keep(tables.pairSteps))
        if !tables.forms.isEmpty, value.rank == 2 {
            let vectors = (walk.source[0] * walk.source[1] / 2 + 15) / 16
            let reach = walk.greatestShift[1] - walk.leastShift[1] + 3
            value.lineMasks = memory.keep([Int32](repeating: 0, count: vectors * 16 * reach))
        }
        value.copied = memory.keep([Int32](repeating: 0, count: tables.steps.count))
        value.direct = memory.keep([Int32](repeating: 0, count: tables.steps.count))
        value.planesIn = planes.kernels
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
