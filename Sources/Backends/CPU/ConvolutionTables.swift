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

    private let walk: ConvolutionTaps
    /// `nil` for a weight gradient.
    private let weightStrides: [Int]?
    /// Where each list of steps begins: each is kept once.
    private var places: [StepList: Int] = [:]

    /// Rows of the result that are computed together, all of one group.
    private struct Block {
        let group: Int
        let rows: Range<Int>
    }

    /// Which positions of the result a pass computes.
    private struct Positions {
        let phase: [Int]
        let counts: [Int]
    }

    /// - Parameters:
    ///   - instructionSet: whose tiles decide how many channels a block has.
    ///   - weightStrides: over `[out, in / groups, kernel..]`; `nil` for a weight gradient.
    ///   - sharesProducts: whether pairs of pixels may share products where that pays.
    init(_ walk: ConvolutionTaps, instructionSet: InstructionSet, weightStrides: [Int]?, sharesProducts: Bool) {
        self.walk = walk
        self.weightStrides = weightStrides
        let blockRows = Int(martlet_convolution_block_rows(instructionSet.kernels, weightStrides == nil ? 1 : 0))
        let blocks = Self.blocks(walk, rows: blockRows)
        var positions = walk.passes.map { Positions(phase: $0.phase, counts: $0.counts) }
        var lists = walk.passes.map { pass in
            var builder = StepBuilder(walk, pass, firstTap: taps.count)
            addTaps(of: pass)
            return blocks.map { builder.list(rows: $0.rows, group: $0.group) }
        }
        if sharesProducts,
            let pairs = PairedConvolution(walk, lists: lists, taps: taps, isWeightGradient: weightStrides == nil)
        {
            lists = pairs.lists
            addForms(of: pairs)
            positions = lists.map { _ in Self.pairs(of: positions[0], axis: walk.geometry.kernel.count - 1) }
        }
        for (positions, lists) in zip(positions, lists) { addPass(positions, blocks, lists) }
    }

    /// Blocks of at most `rows` rows and of nearly equal size.
    private static func blocks(_ walk: ConvolutionTaps, rows: Int) -> [Block] {
        let perGroup = walk.rowsPerGroup
        let count = (perGroup + rows - 1) / rows
        return (0..<walk.geometry.groups).flatMap { group in
            (0..<count).map { index in
                let first = group * perGroup
                return Block(
                    group: group, rows: (first + perGroup * index / count)..<(first + perGroup * (index + 1) / count))
            }
        }
    }

    /// The taps of a pass, and where each lies in the weight.
    private mutating func addTaps(of pass: ConvolutionTaps.Pass) {
        let kernel = walk.geometry.kernel.reduce([[]]) { heads, extent in
            heads.flatMap { head in (0..<extent).map { head + [$0] } }
        }
        for tap in pass.taps {
            let place = weightStrides.map { strides in
                zip(kernel[tap.index], strides.dropFirst(2)).reduce(0) { $0 + $1.0 * $1.1 }
            }
            taps.append(
                martlet_tap(
                    shift: triple(tap.shift), phase: triple(tap.phase), weight: Int64(place ?? 0),
                    index: Int64(tap.index)))
        }
    }

    private mutating func addForms(of pairs: PairedConvolution) {
        forms = pairs.forms.map {
            martlet_pair_form(first: Int32($0.first), second: Int32($0.second), sign: Int32($0.sign))
        }
    }

    /// The same positions counted in pairs along an axis.
    private static func pairs(of positions: Positions, axis: Int) -> Positions {
        var counts = positions.counts
        counts[axis] = (counts[axis] + 1) / 2
        return Positions(phase: positions.phase, counts: counts)
    }

    /// A pass, whose blocks visit one list each.
    private mutating func addPass(_ positions: Positions, _ blocks: [Block], _ lists: [StepList]) {
        passes.append(
            martlet_convolution_pass(
                phase: triple(positions.phase), counts: triple(positions.counts),
                firstBlock: Int64(self.blocks.count), blockCount: Int64(blocks.count)))
        for (block, list) in zip(blocks, lists) {
            // The rows of a transposed convolution are a group's inputs.
            let row = walk.isTransposed ? block.rows.lowerBound % walk.rowsPerGroup : block.rows.lowerBound
            let stride = weightStrides.map { walk.isTransposed ? $0[1] : $0[0] } ?? 0
            self.blocks.append(
                martlet_convolution_block(
                    first: Int32(block.rows.lowerBound), rows: Int32(block.rows.count),
                    firstStep: Int64(place(of: list)), stepCount: Int64(list.steps.count),
                    weight: Int64(row * stride), packed: 0))
        }
    }

    /// Where a list begins in the table of steps, which it is added to at the first time.
    private mutating func place(of list: StepList) -> Int {
        if let place = places[list] { return place }
        let place = steps.count
        places[list] = place
        steps += list.steps.map { martlet_convolution_step(plane: $0.plane, tap: $0.tap, live: $0.live) }
        pairSteps += list.steps.compactMap { $0.pair?.kernels }
        return place
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

/// Numbers of the three axes in the form of the kernels.
func triple(_ list: [Int]) -> (Int64, Int64, Int64) { (Int64(list[0]), Int64(list[1]), Int64(list[2])) }
