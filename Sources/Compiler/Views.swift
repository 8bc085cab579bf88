import Graph

/// How the elements of a tensor are found in another tensor's memory, or computed from their positions without any
/// memory. Broadcasts, transposes, slices and most reshapes are views, and cost nothing.
struct View {
    enum Base: Hashable {
        case tensor(Tensor)
        case position
    }

    var base: Base
    var offset: [Extent]
    /// One for each axis of the tensor that is viewed.
    var strides: [Extent]

    func operand(_ value: (Tensor) -> Int, _ element: ElementType) -> Operand {
        switch base {
        case .position: Operand(.position, offset: offset, strides: strides, element: .int32)
        case .tensor(let tensor): Operand(.value(value(tensor)), offset: offset, strides: strides, element: element)
        }
    }
}

extension View {
    /// The view that a tensor is of another one, or of itself if it has to be computed or copied.
    ///
    /// - Parameters:
    ///   - isStored: tensors that lie in memory; movement is followed no further than to one of them.
    ///   - memory: where such a tensor lies, if not in memory of its own.
    static func of(_ tensor: Tensor, isStored: (Tensor) -> Bool, memory: (Tensor) -> View? = { _ in nil }) -> View {
        // From the tensor that moves down to what it is moved from, and back. A loop, as a chain may be long.
        var (source, moved) = (tensor, [Tensor]())
        while !isStored(source), source.node.operation.isViewed {
            moved.append(source)
            source = source.node.inputs[0]
        }
        let start: View
        if isStored(source) {
            start = memory(source) ?? .whole(source)
        } else if let position = source.node.operation as? Position {
            start = View(
                base: .position, offset: position.offset == 0 ? [] : [position.offset],
                strides: position.strides.map { Extent($0) })
        } else {
            start = .whole(source)
        }
        return moved.reversed().reduce(start) { $0.moved(to: $1) }
    }

    /// A tensor in memory of its own.
    private static func whole(_ tensor: Tensor) -> View {
        View(base: .tensor(tensor), offset: [], strides: tensor.shape.strides)
    }

    /// The view of a tensor that is moved out of the one that this is the view of.
    private func moved(to tensor: Tensor) -> View {
        switch tensor.node.operation {
        case let broadcast as Broadcast:
            let input = tensor.node.inputs[0]
            let lead = broadcast.shape.rank - input.shape.rank
            return View(
                base: base, offset: offset,
                strides: (0..<broadcast.shape.rank).map {
                    $0 < lead || input.shape[$0 - lead].isOne ? 0 : strides[$0 - lead]
                })
        case let transpose as Transpose:
            return View(base: base, offset: offset, strides: transpose.axes.map { strides[$0] })
        case let slice as Slice:
            var offset = self.offset
            for (start, stride) in zip(slice.starts, strides) where start != 0 && stride != 0 {
                offset.append(stride * Extent(start))
            }
            return View(
                base: base, offset: offset, strides: zip(slice.steps, strides).map { $1 * Extent($0) })
        case is Reshape:
            let from = tensor.node.inputs[0].shape
            guard let strides = Self.reshapedStrides(from, self.strides, to: tensor.shape) else {
                return .whole(tensor)
            }
            return View(base: base, offset: offset, strides: strides)
        default:
            return .whole(tensor)
        }
    }

    /// Strides of a strided array under another shape, `nil` if the elements do not lie on one stride for each new axis.
    static func reshapedStrides(_ from: Shape, _ strides: [Extent], to: Shape) -> [Extent]? {
        if from.count == 0 { return to.strides }
        // Strides of axes of extent one are never used.
        let old = zip(from.dimensions, strides).filter { !$0.0.isOne }
        var result = [Extent](repeating: 0, count: to.rank)
        let new = (0..<to.rank).filter { !to[$0].isOne }
        var (i, j) = (0, 0)
        while i < old.count || j < new.count {
            guard i < old.count, j < new.count else { return nil }
            var (left, right) = (old[i].0, to[new[j]])
            var (lastOld, lastNew) = (i, j)
            // Leading products grow on both sides; those of equal size, found by always enlarging the smaller, end a block.
            while left != right {
                if isSmaller(left, right) {
                    lastOld += 1
                    guard lastOld < old.count else { return nil }
                    left = left * old[lastOld].0
                } else {
                    lastNew += 1
                    guard lastNew < new.count else { return nil }
                    right = right * to[new[lastNew]]
                }
            }
            // The old axes of this block must be one run of equally spaced elements.
            for axis in i..<lastOld where old[axis].1 != old[axis + 1].1 * old[axis + 1].0 { return nil }
            var stride = old[lastOld].1
            for axis in (j...lastNew).reversed() {
                result[new[axis]] = stride
                stride = stride * to[new[axis]]
            }
            (i, j) = (lastOld + 1, lastNew + 1)
        }
        return result
    }

    /// An order of monomials in which a product is never smaller than its factors.
    private static func isSmaller(_ a: Extent, _ b: Extent) -> Bool {
        (a.power, a.coefficient) < (b.power, b.coefficient)
    }
}

extension Operation {
    /// Whether it only finds its elements elsewhere, where strides allow it.
    fileprivate var isViewed: Bool { self is Broadcast || self is Transpose || self is Slice || self is Reshape }
}
