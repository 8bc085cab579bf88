import Compiler
import Graph

/// The macros that say which orders a kernel takes, and the tables that hold them.
typealias MaskOrders = [(name: String, argument: LaunchArgument?)]

/// A product's mask as its kernels need it: tables on the device, the parameters that name them, and the macros that
/// choose among the shapes of mask.cl.
struct ProductMask {
    /// 0 none, 1 degrees, 2 matrix.
    var kind = 0
    /// 0 forward, 1 input gradient, 2 weight gradient.
    var role = 0
    var deadOutputsStayZero = false
    /// The tables, in the order of MASK_PARAMETERS.
    var tables: [LaunchArgument] = []
    /// The places of the sorted positions along each axis of the product, where they are not their own.
    var mOrder: LaunchArgument?
    var nOrder: LaunchArgument?
    var kOrder: LaunchArgument?
    /// The sorted position of each column; set on processors where `nOrder` is.
    var nPlace: LaunchArgument?
    /// Runs before the product: the sort of degrees that are known only now.
    var preparation: [LoweredGroup.Step] = []

    /// The macros before mask.cl.
    func definitions(orders: MaskOrders, tileCount: String) -> String {
        var text = "#define MASK \(kind)\n#define ROLE \(role)\n#define NTILES \(tileCount)\n"
        for order in orders where order.argument != nil { text += "#define \(order.name)\n" }
        return text
    }
}

/// Degrees that were sorted earlier in the same run need not be sorted again.
struct RuntimeDegreesKey: Hashable {
    var input: Int
    var output: Int
    var strict: Bool
}

struct RuntimeDegrees {
    var inputOrder: LaunchArgument
    var outputOrder: LaunchArgument
    var extents: LaunchArgument
    var starts: LaunchArgument
    /// Where each input and output is in the order; filled on processors only.
    var inputPlace: LaunchArgument
    var outputPlace: LaunchArgument
}

extension ProductMask {
    /// - Parameter tile: rows and columns of the tiles of the kernel that will run.
    init(
        _ group: ProductGroup, tile: (rows: Int, columns: Int), label: String, lowering: inout LoweringContext
    ) throws {
        guard let mask = group.mask else { return }
        role = mask.role == .forward ? 0 : mask.role == .inputGradient ? 1 : 2
        deadOutputsStayZero = mask.deadOutputsStayZero && mask.role == .weightGradient
        let weight = try Self.weightShape(group, mask.role, label: label)
        switch mask.structure {
        case .degrees(let input, let output, let strict):
            try Self.check(output.count, input.count, against: weight, label: label)
            setStaircase(Staircase(input: input, output: output, strict: strict), &lowering)
        case .runtime(let strict):
            guard let degrees = mask.runtimeDegrees else {
                throw OpenCLError.mismatch(
                    "\(label): a mask by run-time degrees needs the values that hold the degrees")
            }
            setRuntimeDegrees(
                RuntimeDegreesKey(input: degrees.input, output: degrees.output, strict: strict), weight, &lowering)
        case .matrix(let bits):
            try Self.check(bits.rows, bits.columns, against: weight, label: label)
            setMatrix(bits, tile: tile, &lowering)
        }
    }

    /// The shape of the masked weight, which no batch may change.
    private static func weightShape(
        _ group: ProductGroup, _ role: ProductGroup.Role, label: String
    ) throws -> (outputs: Int, inputs: Int) {
        let (outputs, inputs) =
            switch role {
            case .forward: (group.n, group.k)
            case .inputGradient: (group.k, group.n)
            case .weightGradient: (group.m, group.n)
            }
        guard outputs.isStatic, inputs.isStatic else {
            throw OpenCLError.unsupported("\(label): a masked product's weights cannot depend on the batch")
        }
        return (outputs.coefficient, inputs.coefficient)
    }

    private static func check(
        _ rows: Int, _ columns: Int, against weight: (outputs: Int, inputs: Int), label: String
    ) throws {
        guard (rows, columns) == weight else {
            throw OpenCLError.mismatch(
                "\(label): expected a mask of [\(weight.outputs), \(weight.inputs)] (the weight's shape), found [\(rows), \(columns)]"
            )
        }
    }

    /// Degrees that are known already: their staircase, and the orders that make it one.
    private mutating func setStaircase(_ stairs: Staircase, _ lowering: inout LoweringContext) {
        kind = 1
        tables = [
            lowering.table(stairs.extents), lowering.table(stairs.starts(inputs: stairs.inputOrder.count)),
        ]
        setOrders(
            input: stairs.inputOrder.isAscending ? nil : lowering.table(stairs.inputOrder),
            output: stairs.outputOrder.isAscending ? nil : lowering.table(stairs.outputOrder))
        if nOrder != nil {
            nPlace = lowering.table((role == 0 ? stairs.outputOrder : stairs.inputOrder).inverse)
        }
    }

    /// Degrees that a run finds: a kernel sorts them before the product.
    private mutating func setRuntimeDegrees(
        _ key: RuntimeDegreesKey, _ weight: (outputs: Int, inputs: Int), _ lowering: inout LoweringContext
    ) {
        kind = 1
        let sorted = lowering.runtimeDegrees(key, inputs: weight.inputs, outputs: weight.outputs)
        tables = [sorted.extents, sorted.starts]
        setOrders(input: sorted.inputOrder, output: sorted.outputOrder)
        lowering.addOnce(KernelText.degrees)
        let arguments: [LaunchArgument] = [
            .value(key.input), .value(key.output), .constant(weight.inputs), .constant(weight.outputs),
            .constant(key.strict ? 1 : 0), sorted.inputOrder, sorted.outputOrder, sorted.extents, sorted.starts,
        ]
        switch lowering.family {
        case .gpu:
            let count = (weight.inputs + weight.outputs + 63) / 64
            preparation = [.launch("martlet_degrees_gpu", arguments, groups: { _ in [count] }, local: [64])]
        case .cpu:
            nPlace = role == 0 ? sorted.outputPlace : sorted.inputPlace
            preparation = [
                .launch(
                    "martlet_degrees_cpu", arguments + [sorted.inputPlace, sorted.outputPlace],
                    groups: { _ in [1] }, local: [1])
            ]
        }
    }

    /// Any mask: its bits, and where in it anything lives.
    private mutating func setMatrix(
        _ bits: BitMatrix, tile: (rows: Int, columns: Int), _ lowering: inout LoweringContext
    ) {
        kind = 2
        let (starts, intervals) =
            role == 2
            ? (bits.liveTiles(rows: tile.rows, columns: tile.columns), [0])
            : bits.liveIntervals(columnsAreOutputs: role == 0, width: tile.columns)
        let words = bits.words.flatMap { [Int32(truncatingIfNeeded: $0), Int32(truncatingIfNeeded: $0 >> 32)] }
        tables = [
            lowering.table(words), .constant(bits.wordsPerRow * 2), lowering.table(starts), lowering.table(intervals),
        ]
    }

    private mutating func setOrders(input: LaunchArgument?, output: LaunchArgument?) {
        switch role {
        case 0: (kOrder, nOrder) = (input, output)
        case 1: (kOrder, nOrder) = (output, input)
        default: (mOrder, nOrder) = (output, input)
        }
    }
}

extension [Int32] {
    /// Whether every element is its own position.
    var isAscending: Bool { enumerated().allSatisfy { $0.offset == $0.element } }

    /// For a permutation: where each number stands in it.
    var inverse: [Int32] {
        var places = self
        for (place, element) in enumerated() { places[Int(element)] = Int32(place) }
        return places
    }
}

extension Staircase {
    /// For each sorted input, the first sorted output that reads it.
    func starts(inputs: Int) -> [Int32] {
        var starts: [Int32] = []
        starts.reserveCapacity(inputs)
        var output = 0
        for input in 0..<inputs {
            while output < extents.count, Int(extents[output]) <= input { output += 1 }
            starts.append(Int32(output))
        }
        return starts
    }
}

extension BitMatrix {
    /// For each tile of `width` columns of a product, the intervals of k where any of its weights lives, as positions into
    /// a list of bounds. Gaps shorter than sixteen are bridged.
    func liveIntervals(columnsAreOutputs: Bool, width: Int) -> (starts: [Int32], bounds: [Int32]) {
        var starts: [Int32] = [0]
        var bounds: [Int32] = []
        let (n, k) = columnsAreOutputs ? (rows, columns) : (columns, rows)
        for first in stride(from: 0, to: n, by: width) {
            let tile = first..<min(first + width, n)
            var live = [Bool](repeating: false, count: k)
            if columnsAreOutputs {
                var union = [UInt64](repeating: 0, count: wordsPerRow)
                for row in tile { for word in 0..<wordsPerRow { union[word] |= words[row * wordsPerRow + word] } }
                for position in 0..<k { live[position] = union[position >> 6] >> UInt64(position & 63) & 1 == 1 }
            } else {
                for row in 0..<k { live[row] = hasAny(row, tile) }
            }
            let opening = bounds.count
            for position in 0..<k where live[position] {
                if bounds.count > opening, position - Int(bounds[bounds.count - 1]) < 16 {
                    bounds[bounds.count - 1] = Int32(position + 1)
                } else {
                    bounds += [Int32(position), Int32(position + 1)]
                }
            }
            starts.append(Int32(bounds.count / 2))
        }
        return (starts, bounds.isEmpty ? [0, 0] : bounds)
    }

    /// 1 for each tile, row-major, in which any weight lives.
    func liveTiles(rows height: Int, columns width: Int) -> [Int32] {
        let across = (columns + width - 1) / width
        var result = [Int32](repeating: 0, count: (rows + height - 1) / height * across)
        for row in 0..<rows {
            for tile in 0..<across where hasAny(row, tile * width..<min(columns, (tile + 1) * width)) {
                result[row / height * across + tile] = 1
            }
        }
        return result
    }

    /// Whether a row has a bit among some columns.
    private func hasAny(_ row: Int, _ columns: Range<Int>) -> Bool {
        (columns.lowerBound / 64..<(columns.upperBound + 63) / 64).contains { word in
            let bits = words[row * wordsPerRow + word]
            let low = max(columns.lowerBound - word * 64, 0), high = min(columns.upperBound - word * 64, 64)
            return (bits >> UInt64(low)) << UInt64(64 - high + low) != 0
        }
    }
}
