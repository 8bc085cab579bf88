import Compiler
import Graph

/// The GPU family of `ReductionLowering`.
extension ReductionLowering {
    /// A work-group takes some neighbouring results; its work-items share the reduced elements and meet in a tree.
    func gpuText(_ list: ParameterList, twoStage: Bool) throws -> String {
        let (lanes, sharers) = shape
        let innermost = keptNest.rank + reducedNest.rank - 1
        var text = """
            __kernel __attribute__((reqd_work_group_size(\(lanes), \(sharers), 1)))
            void KERNEL(\(list.declaration)) {
                __local \(type(1)) shared[\(lanes * sharers)];
            \(hasRests ? "    __local float shared_rest[\(lanes * sharers)];" : "")
            \(segmentBounds)
            \(twoStage ? segmentRange.twoStage : segmentRange.whole)
                const int lane = get_local_id(0), sharer = get_local_id(1);
                const int wanted = get_group_id(0) * \(lanes) + lane;
                const int result = min(wanted, results - 1);
            \(decode("result", keptNest.extents, to: "x", innermost: nil))
            \(declare("part", indent: "    "))
                for (int block = firstBlock; block < lastBlock; block++) {
                    const int row = block / perRow;
                    const int start = (block - row * perRow) * \(Self.blockLength);
                    const int stop = min(start + \(Self.blockLength), n\(innermost));
            \(decode("row", Array(reducedNest.extents.dropLast()), to: "x", innermost: nil, first: keptNest.rank))

            """
        text += basePositions(inputs + stored, axes: innermost, indent: "        ")
        text += """
                    for (int j = start + sharer; j < stop; j += \(sharers)) {
            \(try accumulate(width: 1, along: innermost, into: "part", indent: "            ", storingIf: "wanted < results"))
                    }
                }
            \(meeting(lanes: lanes, sharers: sharers))
            \(try finish(width: 1, twoStage: twoStage, indent: "        ", result: "result"))
                }
            }
            """
        return text
    }

    /// The segments of a result are added up by eight work-items, which meet in a tree.
    func gpuSecondText(_ list: ParameterList) throws -> String {
        let (lanes, sharers) = Self.secondShape
        return """
            __kernel __attribute__((reqd_work_group_size(\(lanes), \(sharers), 1)))
            void KERNEL(\(list.declaration)) {
                __local \(type(1)) shared[\(lanes * sharers)];
            \(hasRests ? "    __local float shared_rest[\(lanes * sharers)];" : "")
                const int lane = get_local_id(0), sharer = get_local_id(1);
                const int wanted = get_group_id(0) * \(lanes) + lane;
                const int result = min(wanted, results - 1);
            \(declare("part", indent: "    "))
                for (int s = sharer; s < segments; s += \(sharers)) {
                    const \(type(1)) next = partial[s * results + result];
            \(hasRests ? "        const float next_rest = partial[(segments + s) * results + result];" : "")
                    \(merge("part", "next"))
                }
            \(meeting(lanes: lanes, sharers: sharers))
            \(round("total", indent: "        "))
            \(decode("result", keptNest.extents, to: "x", innermost: nil))
            \(try epilogue(width: 1, indent: "        "))
                }
            }
            """
    }

    /// Results side by side, and work-items that share each, where segments are added up.
    static var secondShape: (lanes: Int, sharers: Int) { (32, 8) }

    /// The `part`s of those who share a result are added up; one of them has the `total` of a result that is wanted, and the text goes on
    /// within a block.
    private func meeting(lanes: Int, sharers: Int) -> String {
        """
            shared[sharer * \(lanes) + lane] = part;
        \(hasRests ? "    shared_rest[sharer * \(lanes) + lane] = part_rest;" : "")
            for (int distance = \(sharers / 2); distance > 0; distance >>= 1) {
                barrier(CLK_LOCAL_MEM_FENCE);
                if (sharer < distance) {
                    const int low = sharer * \(lanes) + lane, high = (sharer + distance) * \(lanes) + lane;
                    \(merge("shared[low]", "shared[high]"))
                }
            }
            if (sharer == 0 && wanted < results) {
                \(type(1)) total = shared[lane];
        \(hasRests ? "        const float total_rest = shared_rest[lane];" : "")
        """
    }
}
