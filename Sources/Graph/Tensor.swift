/// The shape of a tensor and the type of its elements.
public struct TensorType: Hashable, Sendable, CustomStringConvertible {
    public var shape: Shape
    public var element: ElementType

    public init(_ shape: Shape, _ element: ElementType = .float32) {
        self.shape = shape
        self.element = element
    }

    public var description: String { "\(element)\(shape)" }
}

/// One application of an operation. Nodes are immutable and refer only to nodes made before them, so a graph is the set
/// of nodes that some tensors reach and needs no object of its own.
public final class Node: Sendable {
    public let operation: any Operation
    public var inputs: [Tensor] { operands }
    // Written once more, when nobody else refers to the node: see `deinit`.
    nonisolated(unsafe) private var operands: [Tensor]
    public let types: [TensorType]
    public let location: SourceLocation?
    /// The mistake that made this node, or one it was made from, impossible.
    public let error: GraphError?
    /// Whether it is computed without reading memory: from positions and single constants, by few enough functions that every reader
    /// can compute it again.
    package var isCounted: Bool { countedCost > 0 }
    private let countedCost: Int
    /// What the operation is to the compiler, asked once.
    public let compilerRole: OperationRole
    /// The same without what belongs to it, for questions that are asked of every node.
    let roleKind: OperationRole.Kind

    public init(_ operation: any Operation, _ inputs: [Tensor], at location: SourceLocation?) {
        self.operation = operation
        operands = inputs
        // A node that an operation or a layer makes inside, or an operator (which cannot tell the line on which it is
        // written), belongs to the line of the latest operand that an author wrote.
        var place = location
        if location?.isInside != false {
            for input in inputs {
                guard let other = input.node.location, !other.isInside else { continue }
                if let place, !place.isInside, place.file != other.file || place.line >= other.line { continue }
                place = other
            }
        }
        self.location = place
        let role = operation.compilerRole
        compilerRole = role
        roleKind = role.kind
        countedCost =
            switch role {
            case .source(.position): 1
            case .source(.constant(let array)): array.count == 1 ? 1 : 0
            case .elementwise, .view: Self.countedCost(inputs)
            default: 0
            }
        if let inherited = inputs.lazy.compactMap(\.error).first {
            error = inherited
            types = [TensorType(.scalar)]
            return
        }
        do throws(GraphError) {
            let types = try operation.outputTypes(for: inputs.map(\.type))
            // In double precision the product cannot overflow.
            if let large = types.first(where: {
                $0.shape.dimensions.reduce(1.0) { $0 * Double($1.coefficient) } > Double(Int32.max)
            }) {
                throw GraphError(
                    operation: operation.name,
                    message:
                        "expected at most \(Int32.max) elements, as kernels count them in 32 bits; \(large) has more")
            }
            self.types = types
            error = nil
        } catch let problem {
            error = GraphError(operation: problem.operation, message: problem.message, location: self.location)
            types = [TensorType(.scalar)]
        }
    }

    private static func countedCost(_ inputs: [Tensor]) -> Int {
        let cost = inputs.reduce(1) { $0 + $1.node.countedCost }
        return inputs.allSatisfy(\.node.isCounted) && cost <= 256 ? cost : 0
    }

    /// Frees a chain of nodes from its end in a loop: each node would free its inputs from within otherwise, and a graph that is deep
    /// enough (a recurrence written out over some ten thousand steps) would overflow the stack.
    deinit {
        var released = operands.map(\.node)
        operands = []
        while var node = released.popLast() {
            guard isKnownUniquelyReferenced(&node) else { continue }
            released += node.operands.map(\.node)
            node.operands = []
        }
    }
}

/// A value in a computation that has been described and not yet run.
///
///     let x = Tensor.input("x", [.batch, 784])
///     let y = (x * 2 + 1).sum(axes: [1])          // [.batch]
///
/// Arithmetic broadcasts the way NumPy does. A tensor whose construction failed carries its `error`.
public struct Tensor: Sendable {
    public let node: Node
    public let index: Int

    public init(_ node: Node, _ index: Int = 0) {
        self.node = node
        self.index = index
    }

    /// The result of an operation with one output.
    public init(_ operation: any Operation, _ inputs: [Tensor], at location: SourceLocation? = nil) {
        self.init(Node(operation, inputs, at: location))
    }

    public var type: TensorType { node.types.indices.contains(index) ? node.types[index] : TensorType(.scalar) }
    public var shape: Shape { type.shape }
    public var elementType: ElementType { type.element }
    public var error: GraphError? { node.error }
    public var location: SourceLocation? { node.location }

    /// Throws the mistake that this tensor carries, if any.
    public func validated() throws(GraphError) -> Tensor {
        if let error { throw error }
        return self
    }
}

extension Tensor: Hashable {
    public static func == (a: Tensor, b: Tensor) -> Bool { a.node === b.node && a.index == b.index }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(ObjectIdentifier(node))
        hasher.combine(index)
    }
}

extension Tensor: CustomStringConvertible {
    public var description: String { "\(node.operation.name) \(type)" }
}

/// Every node that the given tensors reach, inputs before users.
public func topologicalOrder(_ outputs: [Tensor]) -> [Node] {
    var order: [Node] = []
    var done = Set<ObjectIdentifier>()
    var stack: [(node: Node, expanded: Bool)] = outputs.reversed().map { ($0.node, false) }
    while let (node, expanded) = stack.popLast() {
        if expanded {
            order.append(node)
        } else if done.insert(ObjectIdentifier(node)).inserted {
            stack.append((node, true))
            for input in node.inputs.reversed() where !done.contains(ObjectIdentifier(input.node)) {
                stack.append((input.node, false))
            }
        }
    }
    return order
}
