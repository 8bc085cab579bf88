import Graph

extension Schedule {
    /// Bytes that every schedule for the same outputs has to move: each element of an input that is read, once, and each output.
    /// For schedules of elementwise groups and reductions alone.
    public func compulsoryBytes(batch: Int) -> Int {
        var touched: [Int: Set<Int>] = [:]
        for group in groups {
            for walk in group.walks {
                for operand in walk.operands {
                    guard let value = operand.value else { continue }
                    if case .temporary = values[value].storage { continue }
                    let shape = walk.extents.map { $0.resolved(batch: batch) }
                    let start = operand.offset.reduce(0) { $0 + $1.resolved(batch: batch) }
                    let strides = operand.strides.map { $0.resolved(batch: batch) }
                    touched[value, default: []].formUnion(
                        affinePositions(shape, offset: start, strides: strides).map { Int($0) })
                }
            }
        }
        for output in outputs { touched[output] = Set(0..<values[output].type.shape.count.resolved(batch: batch)) }
        return touched.reduce(0) { $0 + $1.value.count * values[$1.key].type.element.byteCount }
    }

    /// Bytes that the groups move: in each, every view of a value once, and a repeated element once.
    public func movedBytes(batch: Int) -> Int {
        groups.reduce(0) { sum, group in
            sum
                + group.walks.reduce(0) { sum, walk in
                    Set(walk.operands).reduce(sum) { sum, operand in
                        guard operand.value != nil else { return sum }
                        let touched = zip(walk.extents, operand.strides).filter { $0.1 != 0 }.reduce(1) {
                            $0 * $1.0.resolved(batch: batch)
                        }
                        return sum + touched * operand.element.byteCount
                    }
                }
        }
    }
}

extension Group {
    /// What a group walks that reads every element once; nothing of other groups.
    fileprivate var walks: [Walk] { kind.readsOnce ? kind.reading + kind.writing : [] }
}
