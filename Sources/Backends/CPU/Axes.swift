import CPUKernels
import Compiler
import Graph

/// An operand with its strides as numbers, for one batch size.
struct ResolvedOperand {
    var source: Operand.Source
    var element: ElementType
    var offset: Int
    var strides: [Int]

    init(_ operand: Operand, batch: Int) {
        source = operand.source
        element = operand.element
        offset = operand.offset.reduce(0) { $0 + $1.resolved(batch: batch) }
        strides = operand.strides.map { $0.resolved(batch: batch) }
    }

    /// The form of the C kernels.
    var kernels: martlet_operand { kernels(strides: strides) }

    /// The same over other axes.
    func kernels(strides: [Int]) -> martlet_operand {
        var result = martlet_operand()
        switch source {
        case .value(let value): result.source = Int32(value)
        case .position: result.source = Int32(MARTLET_SOURCE_POSITION)
        }
        result.element = Int32(element.kernels.rawValue)
        result.offset = Int64(offset)
        withUnsafeMutableBytes(of: &result.strides) { bytes in
            let target = bytes.bindMemory(to: Int64.self)
            for (axis, stride) in strides.enumerated() { target[axis] = Int64(stride) }
        }
        return result
    }
}

/// A run of axes of an iteration space, for one batch size, made as few as possible.
struct ResolvedAxes {
    var extents: [Int]
    /// Positions of the remaining axes among those that they were made from, and what each operand's strides are along them.
    private(set) var strides: [[Int]]

    /// Drops axes of extent one, sorts the others by how far apart their elements lie (in the operands, the first counting
    /// most) and joins neighbours that every operand walks as one.
    ///
    /// - Parameters:
    ///   - strides: for each operand, its strides along these axes.
    ///   - reads: the operands that are read, if they are to be read in the order in which they lie as well. The axis along which one of
    ///     them lies together then comes next to last, so that what a cache fetches of it is used before it is gone.
    init(_ extents: [Int], _ strides: [[Int]], sorts: Bool = true, reads: Range<Int> = 0..<0) {
        var order = extents.indices.filter { extents[$0] != 1 }
        if sorts {
            // A stable insertion sort: there are few axes.
            let isFarther = { (a: Int, b: Int) -> Bool in
                for operand in strides where operand[a] != 0 && operand[b] != 0 && abs(operand[a]) != abs(operand[b]) {
                    return abs(operand[a]) > abs(operand[b])
                }
                return false
            }
            for i in order.indices.dropFirst() {
                var j = i
                while j > 0, isFarther(order[j], order[j - 1]) {
                    order.swapAt(j, j - 1)
                    j -= 1
                }
            }
        }
        if let last = order.last {
            let farApart = reads.lazy.compactMap { operand in
                abs(strides[operand][last]) >= 16 ? order.dropLast().first { abs(strides[operand][$0]) == 1 } : nil
            }.first
            if let axis = farApart, let place = order.firstIndex(of: axis) {
                order.remove(at: place)
                order.insert(axis, at: order.count - 1)
            }
        }
        var joined: [Int] = []
        var lines = [[Int]](repeating: [], count: strides.count)
        for axis in order {
            let joins =
                !joined.isEmpty && strides.indices.allSatisfy { lines[$0].last! == strides[$0][axis] * extents[axis] }
            if joins {
                joined[joined.count - 1] *= extents[axis]
                for operand in strides.indices { lines[operand][joined.count - 1] = strides[operand][axis] }
            } else {
                joined.append(extents[axis])
                for operand in strides.indices { lines[operand].append(strides[operand][axis]) }
            }
        }
        self.extents = joined
        self.strides = lines
    }

    var count: Int { extents.reduce(1, *) }
}

/// Memory that C structures point into; freed with its owner.
final class PlanMemory {
    private var allocations: [UnsafeMutableRawPointer] = []

    func keep<T>(_ values: [T]) -> UnsafeMutablePointer<T> {
        let memory = UnsafeMutablePointer<T>.allocate(capacity: max(1, values.count))
        memory.initialize(from: values, count: values.count)
        allocations.append(UnsafeMutableRawPointer(memory))
        return memory
    }

    deinit { for allocation in allocations { allocation.deallocate() } }
}

/// Copies up to `MARTLET_MAXIMUM_RANK` extents into a C array.
func setExtents<Tuple>(_ target: inout Tuple, _ extents: [Int]) {
    withUnsafeMutableBytes(of: &target) { bytes in
        let numbers = bytes.bindMemory(to: Int64.self)
        for (axis, extent) in extents.enumerated() { numbers[axis] = Int64(extent) }
    }
}
