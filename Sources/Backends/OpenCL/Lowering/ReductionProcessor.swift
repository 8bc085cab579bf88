import Compiler
import Graph

/// The processor family of `ReductionLowering`.
extension ReductionLowering {
    /// A work-item takes whole rows: sixteen running sums, a tree over them, and the tail of each block beside.
    func rowText(_ list: ParameterList, twoStage: Bool) throws -> String {
        let axis = keptNest.rank + reducedNest.rank - 1
        let vector = !ProgramText.goesOneByOne(group.prologue)
        return """
            __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
            void KERNEL(\(list.declaration)) {
            \(segmentBounds)
            \(twoStage ? segmentRange.twoStage : segmentRange.whole)
                const int share = (results + (int)get_num_groups(0) - 1) / (int)get_num_groups(0);
                const int last = min(results, (int)(get_group_id(0) + 1) * share);
                for (int result = get_group_id(0) * share; result < last; result++) {
            \(decode("result", keptNest.extents, to: "x", innermost: nil))
            \(declare("sums", 16, indent: "        "))
            \(declare("tail", indent: "        "))
                    for (int block = firstBlock; block < lastBlock; block++) {
            \(blockPositions("        ", keptNames: true))
            \(vector ? """
                        for (; j + 16 <= stop; j += 16) {
            \(try accumulate(width: 16, along: axis, into: "sums", indent: "                "))
                        }
            """ : "")
                        for (; j < stop; j++) {
            \(try accumulate(width: 1, along: axis, into: "tail", indent: "                "))
                        }
                    }
            \(foldText)
                    \(merge("total", "tail"))
                    {
            \(try finish(width: 1, twoStage: twoStage, indent: "            ", result: "result"))
                    }
                }
            }
            """
    }

    /// The tree over the lanes of `sums`, into `total`.
    private var foldText: String {
        """
                \(type(1)) lanes[16];
                vstore16(sums, 0, lanes);
        \(hasRests ? "        float lanes_rest[16];\n        vstore16(sums_rest, 0, lanes_rest);" : "")
                for (int distance = 8; distance > 0; distance >>= 1) {
                    for (int lane = 0; lane < distance; lane++) { \(merge("lanes[lane]", "lanes[lane + distance]")) }
                }
                \(type(1)) total = lanes[0];
        \(hasRests ? "        float total_rest = lanes_rest[0];" : "")
        """
    }

    /// A work-item takes sixteen neighbouring results and walks the reduced axes in order.
    func columnText(_ list: ParameterList, twoStage: Bool) throws -> String {
        let axis = keptNest.rank - 1
        let vector = !ProgramText.goesOneByOne(group.prologue) && !ProgramText.goesOneByOne(group.epilogue)
        func loop(width: Int) throws -> String {
            """
            {
            \(declare("total", width, indent: "        "))
                    for (int block = firstBlock; block < lastBlock; block++) {
            \(blockPositions("        ", keptNames: false))
                        for (; j < stop; j++) {
            \(try accumulate(width: width, along: axis, into: "total", indent: "                "))
                        }
                    }
                    {
            \(try finish(width: width, twoStage: twoStage, indent: "            ", result: "result"))
                    }
            }
            """
        }
        // Sixteen results lie side by side only within one run of the innermost kept axis.
        return """
            __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
            void KERNEL(\(list.declaration)) {
            \(segmentBounds)
            \(twoStage ? segmentRange.twoStage : segmentRange.whole)
                const int share = ((results + 15) / 16 + (int)get_num_groups(0) - 1) / (int)get_num_groups(0) * 16;
                const int last = min(results, (int)(get_group_id(0) + 1) * share);
                int result = get_group_id(0) * share;
                while (result < last) {
            \(decode("result", keptNest.extents, to: "x", innermost: nil))
            \(vector ? """
                    if (result + 16 <= last && x\(axis) + 16 <= n\(axis)) \(try loop(width: 16))
                    else
            """ : "")
                    \(try loop(width: 1))
                    result += \(vector ? "result + 16 <= last && x\(axis) + 16 <= n\(axis) ? 16 : 1" : "1");
                }
            }
            """
    }
}
