import CPUKernels
import Compiler

/// A convolution whose neighbouring results along the last axis share products: Winograd's F(2, 3) for runs of three taps (Lavin
/// and Gray 2016, section 4.1), F(2, 2) for runs of two. With x0, x1, .. the pixels that the first tap of a run and those behind it
/// find for the first result of a pair, the pair is (m0 + m1 + m2, m1 - m2 - m3) with
///
///     three taps   m0 += g0 (x0 - x2)   m1 += (g0 + g1 + g2)/2 (x1 + x2)   m2 += (g1 - g0 - g2)/2 (x1 - x2)   m3 += g2 (x1 - x3)
///     two taps     m0 += g0 (x0 - x1)   m1 += (g0 + g1) x1                                                   m3 += g1 (x1 - x2)
///     one tap      m0 += g0 x0                                                                               m3 -= g0 x1
///
/// which is four products for six, three for four, and two for two. m0 reaches the first result only and m3 the second, so
/// neither is computed from a pixel that its own taps do not reach: the first sees x0 to x2, the second x1 to x3 (of two taps: x0
/// and x1, x1 and x2). A mask stays exact. Taps whose masks differ are not in one run.
struct PairedConvolution {
    /// x[2 q + first] + sign x[2 q + second] at pair q, counted from the least shift of all taps.
    struct Form: Hashable {
        var first: Int
        var second: Int
        var sign: Int
    }

    /// What a step reads, and the sum of weights that it is multiplied with.
    struct Reading: Hashable {
        var form: Int
        var taps: [Int]
        var factors: [Float]

        var kernels: martlet_pair_step {
            let tap = { Int32(taps[min($0, taps.count - 1)]) }
            let factor = { $0 < factors.count ? factors[$0] : 0 }
            return martlet_pair_step(
                form: Int32(form), taps: (tap(0), tap(1), tap(2)), factors: (factor(0), factor(1), factor(2)))
        }
    }

    /// For each of the four sums, the steps of each block.
    private(set) var lists: [[StepList]] = []
    private(set) var forms: [Form] = []
    private var numbers: [Form: Int] = [:]
    private let least: Int

    /// `nil` where it can't be done or does not pay.
    init?(_ walk: ConvolutionTaps, lists direct: [[StepList]], taps: [martlet_tap], isWeightGradient: Bool) {
        let inner = walk.geometry.kernel.count - 1
        guard inner > 0, walk.passes.count == 1, walk.rowsPerGroup >= 8,
            (walk.sourceStep + walk.resultStep).allSatisfy({ $0 == 1 }),
            // Lines of a few pairs fill no vector; of four pixels, those of several images are walked together and do.
            walk.result[inner] > 6 || (walk.result[inner] == 4 && !isWeightGradient),
            walk.greatestShift[inner] - walk.leastShift[inner] + 2 <= Int(MARTLET_PAIR_REACH)
        else { return nil }
        least = walk.leastShift[inner]
        var known: [StepList: [StepList]] = [:]
        var (before, after) = (0, 0)
        lists = [[StepList]](repeating: [], count: 4)
        for list in direct[0] {
            if known[list] == nil { known[list] = pair(list, taps, inner: inner) }
            before += 2 * list.steps.count
            for (sum, steps) in known[list]!.enumerated() {
                lists[sum].append(steps)
                after += steps.steps.count
            }
        }
        // In vectors of pairs, which are multiplied and added in a cycle: seeing a plane in a form takes some cycles for each line,
        // unless all are walked as one, and putting pairs together for each row. Lines of few pairs do not fill vectors.
        let blockRows = Double(walk.rows) / Double(direct[0].count)
        let count = Double((walk.result[inner] + 1) / 2)
        let lines = inner == 1 && Double(walk.source[1]) == 2 * count ? 1 : max(1, 16 / count)
        let making = 8 * Double(forms.count * walk.planes) * lines + (isWeightGradient ? 10 : 40) * Double(walk.rows)
        if Double(after) * blockRows + making > 0.92 * Double(before) * blockRows { return nil }
    }

    private mutating func pair(_ list: StepList, _ taps: [martlet_tap], inner: Int) -> [StepList] {
        var sums = [[StepList.Step]](repeating: [], count: 4)
        func shift(_ step: StepList.Step) -> [Int] {
            let shift = taps[Int(step.tap)].shift
            return [Int(shift.0), Int(shift.1), Int(shift.2)]
        }
        var at = list.steps.startIndex
        while at < list.steps.endIndex {
            let plane = list.steps[at].plane
            let end = list.steps[at...].firstIndex { $0.plane != plane } ?? list.steps.endIndex
            let steps = list.steps[at..<end].sorted { shift($0).lexicographicallyPrecedes(shift($1)) }
            var start = 0
            while start < steps.count {
                // Neighbours of one line of the kernel.
                var stop = start + 1
                while stop < steps.count, steps[stop].live == steps[start].live {
                    var next = shift(steps[stop - 1])
                    next[inner] += 1
                    if shift(steps[stop]) != next { break }
                    stop += 1
                }
                while start < stop {
                    // Four are two and two.
                    let count = stop - start == 4 ? 2 : min(3, stop - start)
                    add(Array(steps[start..<start + count]), at: shift(steps[start])[inner] - least, to: &sums)
                    start += count
                }
            }
            at = end
        }
        return sums.map(StepList.init)
    }

    /// One run of taps, the first of which is `start` pixels behind the least shift.
    private mutating func add(_ run: [StepList.Step], at start: Int, to sums: inout [[StepList.Step]]) {
        let taps = run.map { Int($0.tap) }
        func step(_ sum: Int, _ first: Int, _ sign: Int, _ second: Int, _ factors: [(tap: Int, factor: Float)]) {
            let form = Form(first: start + first, second: start + second, sign: sign)
            if numbers[form] == nil {
                numbers[form] = forms.count
                forms.append(form)
            }
            var one = run[0]
            one.pair = Reading(
                form: numbers[form]!, taps: factors.map { taps[$0.tap] }, factors: factors.map(\.factor))
            sums[sum].append(one)
        }
        switch run.count {
        case 3:
            step(0, 0, -1, 2, [(0, 1)])
            step(1, 1, 1, 2, [(0, 0.5), (1, 0.5), (2, 0.5)])
            step(2, 1, -1, 2, [(0, -0.5), (1, 0.5), (2, -0.5)])
            step(3, 1, -1, 3, [(2, 1)])
        case 2:
            step(0, 0, -1, 1, [(0, 1)])
            step(1, 1, 0, 1, [(0, 1), (1, 1)])
            step(3, 1, -1, 2, [(1, 1)])
        default:
            step(0, 0, 0, 0, [(0, 1)])
            step(3, 1, 0, 1, [(0, -1)])
        }
    }
}
