import Graph

// Values of a sampler's lanes lie `[element, lane]`, arrays of the host's `[example, element]`.

extension HostArray {
    /// `[batch, count]` as `[count, lanes]`; the lanes behind the batch are zeros.
    func intoLanes(_ lanes: Int, count: Int, batch: Int) -> HostArray {
        let turned = columnsAsRows(rows: batch, columns: count, keeping: count, shape: [count, batch])
        var result = HostArray(type: type, shape: [count, lanes])
        let (size, row) = (type.byteCount, batch * type.byteCount)
        turned.withUnsafeBytes { source in
            result.withUnsafeMutableBytes { target in
                for e in 0..<count {
                    UnsafeMutableRawBufferPointer(rebasing: target[e * lanes * size..<e * lanes * size + row])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[e * row..<(e + 1) * row]))
                }
            }
        }
        return result
    }

    /// The first `keeping` columns of a matrix, as rows.
    /// - Parameter places: the rows in the order in which they are taken, if not their own.
    func columnsAsRows(
        rows: Int, columns: Int, keeping: Int, shape: [Int], places: [Int32]? = nil
    ) -> HostArray {
        let starts = places.map { $0.map { Int($0) * columns } } ?? (0..<rows).map { $0 * columns }
        var result = HostArray(type: type, shape: shape)
        withUnsafeBytes { source in
            result.withUnsafeMutableBytes { target in
                if type.byteCount == 4 {
                    let (from, to) = (source.bindMemory(to: UInt32.self), target.bindMemory(to: UInt32.self))
                    for c in 0..<keeping { for r in 0..<rows { to[c * rows + r] = from[starts[r] + c] } }
                } else {
                    for c in 0..<keeping { for r in 0..<rows { target[c * rows + r] = source[starts[r] + c] } }
                }
            }
        }
        return result
    }
}
