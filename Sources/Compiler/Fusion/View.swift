import Graph

/// How the elements of a tensor are found in another tensor's memory, or computed from their positions without any
/// memory. Broadcasts, transposes, slices and most reshapes are views, and cost nothing.
struct View {
    enum Base: Hashable {
        case tensor(Tensor)
        case position
    }

    var base: Base
    /// Over the axes of the tensor that is viewed.
    var layout: StridedLayout

    var offset: [Extent] { layout.offset }
    var strides: [Extent] { layout.strides }

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
    ///   - isStored: tensors that lie in memory; views are followed no further than to one of them.
    ///   - memory: where such a tensor lies, if not in memory of its own.
    static func of(_ tensor: Tensor, isStored: (Tensor) -> Bool, memory: (Tensor) -> View? = { _ in nil }) -> View {
        if isStored(tensor) { return memory(tensor) ?? .whole(tensor) }
        guard tensor.node.isView else { return start(tensor) }
        // From the view down to what it is a view of, and back. A loop, as a chain may be long.
        var (source, moved) = (tensor, [Tensor]())
        while !isStored(source), source.node.isView {
            moved.append(source)
            source = source.node.inputs[0]
        }
        let start = isStored(source) ? memory(source) ?? .whole(source) : start(source)
        return moved.reversed().reduce(start) { $0.moved(to: $1) }
    }

    private static func start(_ tensor: Tensor) -> View {
        guard let position = tensor.node.position else { return .whole(tensor) }
        return View(
            base: .position,
            layout: StridedLayout(
                offset: position.offset == 0 ? [] : [position.offset], strides: position.strides.map { Extent($0) }))
    }

    /// A tensor in memory of its own.
    private static func whole(_ tensor: Tensor) -> View {
        View(base: .tensor(tensor), layout: StridedLayout(tensor.shape))
    }

    /// The view of a tensor that is a view of the one that this is the view of.
    private func moved(to tensor: Tensor) -> View {
        guard let view = tensor.node.view,
            let layout = view.layout(of: tensor.node.inputs[0].shape, in: layout, result: tensor.shape)
        else { return .whole(tensor) }
        return View(base: base, layout: layout)
    }
}
