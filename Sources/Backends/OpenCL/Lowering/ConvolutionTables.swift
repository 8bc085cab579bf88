import Compiler
import Graph

/// The tables of one pass of a convolution: tiles of channels and the live steps of each (see the kernels).
struct ConvolutionTables {
    /// Five integers a tile: first row, rows, first step, steps, first row of the weight.
    var blocks: [Int32] = []
    /// Four integers a step: reach along three axes, plane.
    var steps: [Int32] = []
    /// Where a step's weight lies, from the first row of the weight.
    var weights: [Int32] = []
    /// Two words a step: which rows of the tile it reaches.
    var live: [Int32] = []
    /// The most steps that a tile has.
    var longest = 0

    var blockCount: Int { blocks.count / 5 }

    /// - Parameters:
    ///   - tile: rows of a tile at most; at most 64 where the mask tells channels apart.
    ///   - weightStrides: over `[out, in / groups, kernel..]`, in elements.
    ///   - holdsBothHalves: whether a tile holds channels of the first half of the result, which its block counts, and
    ///     their likes of the second half; without groups.
    init(
        _ walk: ConvolutionTaps, _ pass: ConvolutionTaps.Pass, tile: Int, weightStrides: [Int],
        holdsBothHalves: Bool = false
    ) {
        let rowsPerGroup = holdsBothHalves ? walk.rows / 2 : walk.rowsPerGroup
        let tile = holdsBothHalves ? tile / 2 : tile
        let kernel = walk.geometry.kernel
        let tapStrides = Array(weightStrides.dropFirst(2))
        let places = pass.taps.map { tap in
            var (rest, place) = (tap.index, 0)
            for axis in kernel.indices.reversed() {
                place += rest % kernel[axis] * tapStrides[axis]
                rest /= kernel[axis]
            }
            return place
        }
        for group in 0..<walk.geometry.groups {
            var known: [[Int32]: (first: Int, count: Int)] = [:]
            let count = (rowsPerGroup + tile - 1) / tile
            for index in 0..<count {
                let first = group * rowsPerGroup + rowsPerGroup * index / count
                let last = group * rowsPerGroup + rowsPerGroup * (index + 1) / count
                // Each row of the tile and its channel.
                let rows = (first..<last).flatMap { channel in
                    let local = channel - first
                    if !holdsBothHalves { return [(local, channel)] }
                    return (0..<2).map { (local / 2 * 4 + $0 * 2 + local % 2, channel + $0 * rowsPerGroup) }
                }
                // Without channel masks the tiles of a group read the same.
                let reached = known[[]] ?? add(walk, pass, rows: rows, group: group, places: places, weightStrides)
                if !walk.hasChannelMask { known[[]] = reached }
                let weightRow = walk.isTransposed ? first % rowsPerGroup : first
                blocks += [first, last - first, reached.first, reached.count, weightRow].map { Int32($0) }
                longest = max(longest, reached.count)
            }
        }
    }

    private mutating func add(
        _ walk: ConvolutionTaps, _ pass: ConvolutionTaps.Pass, rows: [(local: Int, channel: Int)], group: Int,
        places: [Int], _ weightStrides: [Int]
    ) -> (first: Int, count: Int) {
        let first = weights.count
        for plane in group * walk.planesPerGroup..<(group + 1) * walk.planesPerGroup {
            let planeOffset =
                walk.isTransposed
                ? plane * weightStrides[0] : plane % walk.planesPerGroup * weightStrides[1]
            for (tap, place) in zip(pass.taps, places) {
                var word: UInt64 = .max
                if walk.hasChannelMask {
                    word = 0
                    for row in rows where walk.isLive(row: row.channel, plane: plane, tap: tap.index) {
                        word |= 1 << UInt64(row.local)
                    }
                    if word == 0 { continue }
                    live += [Int32(truncatingIfNeeded: word), Int32(truncatingIfNeeded: word >> 32)]
                }
                let reach = (0..<3).map { tap.shift[$0] * walk.sourceStep[$0] + tap.phase[$0] }
                steps += (reach + [plane]).map { Int32($0) }
                weights.append(Int32(planeOffset + place))
            }
        }
        return (first, weights.count - first)
    }

    /// For each weight the step of its row's tile that is its own, -1 where it is dead.
    func columns(_ walk: ConvolutionTaps, _ pass: ConvolutionTaps.Pass) -> [Int32] {
        let taps = walk.geometry.tapCount
        let length = walk.planesPerGroup * taps
        var result = [Int32](repeating: -1, count: walk.rows * length)
        for block in stride(from: 0, to: blocks.count, by: 5) {
            let (first, rows) = (Int(blocks[block]), Int(blocks[block + 1]))
            let (start, count) = (Int(blocks[block + 2]), Int(blocks[block + 3]))
            // A weight's place tells its plane and tap: weights are contiguous here.
            for column in 0..<count {
                let place = Int(weights[start + column])
                for row in first..<first + rows
                where walk.isLive(row: row, plane: Int(steps[(start + column) * 4 + 3]), tap: place % taps) {
                    result[row * length + place] = Int32(column)
                }
            }
        }
        return result
    }
}
