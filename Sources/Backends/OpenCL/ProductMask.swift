import Compiler
import Graph

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
    var preparation: Step?

    /// The macros before mask.cl.
    func definitions(orders: [(name: String, argument: LaunchArgument?)], tileCount: String) -> String {
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
    var inputOrder: OpenCLBuffer
    var outputOrder: OpenCLBuffer
    var extents: OpenCLBuffer
    var starts: OpenCLBuffer
    /// Where each input and output is in the order; filled on processors only.
    var inputPlace: OpenCLBuffer
    var outputPlace: OpenCLBuffer
}

extension ProductMask {
    /// - Parameter tile: rows and columns of the tiles of the kernel that will run.
    init(
        _ group: ProductGroup, tile: (rows: Int, columns: Int), label: String, lowering: inout LoweringContext
    ) throws {
        guard let mask = group.mask else { return }
        role = mask.role == .forward ? 0 : mask.role == .inputGradient ? 1 : 2
        deadOutputsStayZero = mask.deadOutputsStayZero && mask.role == .weightGradient
        let (outExtent, inExtent) =
            switch mask.role {
            case .forward: (group.n, group.k)
            case .inputGradient: (group.k, group.n)
            case .weightGradient: (group.m, group.n)
            }
        guard outExtent.isStatic, inExtent.isStatic else {
            throw OpenCLError.unsupported("\(label): a masked product's weights cannot depend on the batch")
        }
        let (outputs, inputs) = (outExtent.coefficient, inExtent.coefficient)
        func requireShape(_ rows: Int, _ columns: Int) throws {
            guard rows == outputs, columns == inputs else {
                throw OpenCLError.mismatch(
                    "\(label): expected a mask of [\(outputs), \(inputs)] (the weight's shape), found [\(rows), \(columns)]"
                )
            }
        }
        switch mask.structure {
        case .degrees(let input, let output, let strict):
            try requireShape(output.count, input.count)
            let stairs = Staircase(input: input, output: output, strict: strict)
            kind = 1
            tables = [
                .buffer(try lowering.upload(stairs.extents)),
                .buffer(try lowering.upload(stairs.starts(inputs: inputs))),
            ]
            setOrders(
                input: stairs.inputOrder.isAscending ? nil : .buffer(try lowering.upload(stairs.inputOrder)),
                output: stairs.outputOrder.isAscending ? nil : .buffer(try lowering.upload(stairs.outputOrder)))
            if nOrder != nil {
                let order = role == 0 ? stairs.outputOrder : stairs.inputOrder
                var places = order
                for (place, column) in order.enumerated() { places[Int(column)] = Int32(place) }
                nPlace = .buffer(try lowering.upload(places))
            }
        case .runtime(let strict):
            guard let degrees = mask.runtimeDegrees else {
                throw OpenCLError.mismatch(
                    "\(label): a mask by run-time degrees needs the values that hold the degrees")
            }
            kind = 1
            let key = RuntimeDegreesKey(input: degrees.input, output: degrees.output, strict: strict)
            let sorted = try lowering.runtimeDegrees(key, inputs: inputs, outputs: outputs)
            tables = [.buffer(sorted.extents), .buffer(sorted.starts)]
            setOrders(input: .buffer(sorted.inputOrder), output: .buffer(sorted.outputOrder))
            lowering.library.addOnce(KernelText.degrees)
            var arguments: [LaunchArgument] = [
                .value(degrees.input), .value(degrees.output), .integer { _ in inputs }, .integer { _ in outputs },
                .integer { _ in strict ? 1 : 0 }, .buffer(sorted.inputOrder), .buffer(sorted.outputOrder),
                .buffer(sorted.extents), .buffer(sorted.starts),
            ]
            switch lowering.family {
            case .gpu:
                let count = (inputs + outputs + 63) / 64
                preparation = .launch(
                    Launch(kernel: "martlet_degrees_gpu", arguments: arguments, groups: { _ in [count] }, local: [64]))
            case .cpu:
                arguments += [.buffer(sorted.inputPlace), .buffer(sorted.outputPlace)]
                nPlace = .buffer(role == 0 ? sorted.outputPlace : sorted.inputPlace)
                preparation = .launch(
                    Launch(kernel: "martlet_degrees_cpu", arguments: arguments, groups: { _ in [1] }, local: [1]))
            }
        case .matrix(let bits):
            try requireShape(bits.rows, bits.columns)
            kind = 2
            let starts: [Int32]
            let intervals: [Int32]
            if role == 2 {
                starts = bits.liveTiles(rows: tile.rows, columns: tile.columns)
                intervals = [0]
            } else {
                (starts, intervals) = bits.liveIntervals(columnsAreOutputs: role == 0, width: tile.columns)
            }
            let words = bits.words.flatMap { [Int32(truncatingIfNeeded: $0), Int32(truncatingIfNeeded: $0 >> 32)] }
            let wordsPerRow = bits.wordsPerRow * 2
            tables = [
                .buffer(try lowering.upload(words)), .integer { _ in wordsPerRow },
                .buffer(try lowering.upload(starts)),
                .buffer(try lowering.upload(intervals)),
            ]
        }
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
                // Tiles are whole words wide.
                for row in 0..<k {
                    live[row] = (first / 64..<(tile.upperBound + 63) / 64).contains {
                        words[row * wordsPerRow + $0] != 0
                    }
                }
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
            for word in 0..<wordsPerRow where words[row * wordsPerRow + word] != 0 {
                // A tile is a whole number of words wide.
                result[row / height * across + word * 64 / width] = 1
            }
        }
        return result
    }
}
