/// An operation: its shapes, its gradient, what it reads, what it is to the compiler, how its elements are made, what it costs, and what
/// it means in double precision.
///
/// The remaining two faces, how a CPU and how an OpenCL device run it, belong to the backends. What an operation says of its role is enough
/// for most (an elementwise function, a view, an assembly of boxes, a reduction); an operation that is `independent` or `opaque` also
/// needs one function in each backend.
public protocol Operation: Sendable {
    /// The name in messages and listings.
    var name: String { get }

    /// Two applications with equal keys and equal inputs are computed once. `nil` is never shared.
    var key: AnyHashable? { get }

    /// What it is to the compiler.
    var compilerRole: OperationRole { get }

    /// The shape rule. Throws a message that names both shapes; the location is added by the caller.
    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType]

    /// The gradient rule: given the gradient of every output (`nil` where nothing depends on it), the gradient of every
    /// input (`nil` where there is none).
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?]

    /// The dependency rule: which elements of each input an output's elements are computed from, one relation for every input.
    func relations(_ context: RelationContext) -> [Relation]

    /// What is known of the output's values without running, from what is known of the inputs'. A product, for example,
    /// knows that an element is zero where one factor is.
    func knownValues(_ context: RelationContext) -> KnownValues?

    /// How the elements of its result are made one by one, which a compiled draw needs to make each as soon as it can be. `nil` where
    /// the operation says nothing: variables that are drawn through it are drawn by full passes.
    func elementRule(_ context: ElementRuleContext) -> ElementRule?

    /// A number for each channel of a result `[batch, channels, positions..]`, equal for channels that are made alike, from the same
    /// elements by other weights: a draw makes neighbours of one kind together. `nil` where channels are nothing special.
    func channelKinds(_ inputs: [TensorType]) -> [Int]?

    /// A simpler tensor equal to the only result, `nil` if there is none: a reshape to the shape that its operand has is its operand.
    func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor?

    /// The same where nobody else reads the first operand, whose place it may then take.
    func simplifiedAsOnlyReader(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor?

    /// The cost rule: the multiply-adds of one application to `batch` examples. `nil` for what sums no products (elementwise functions,
    /// movement, reductions) and where nobody knows.
    func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work?

    /// How many exps (or logarithms and their like) one application to `batch` examples takes, where it is no elementwise function, whose
    /// row says it.
    func exps(_ inputs: [TensorType], batch: Int) -> Int

    /// The meaning, in double precision. `elements` limits the work to some flat output elements, for the operations
    /// that can be computed element by element; the others compute everything.
    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext)
}

extension Operation {
    public var compilerRole: OperationRole { .opaque }
    public func elementRule(_ context: ElementRuleContext) -> ElementRule? { nil }
    public func channelKinds(_ inputs: [TensorType]) -> [Int]? { nil }
    public func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? { nil }
    public func simplifiedAsOnlyReader(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? { nil }
    public func knownValues(_ context: RelationContext) -> KnownValues? { nil }
    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? { nil }
    public func exps(_ inputs: [TensorType], batch: Int) -> Int { 0 }
}

extension Operation where Self: Hashable {
    public var key: AnyHashable? { AnyHashable(self) }
}

/// A dense array of doubles with a run-time shape, the currency of the interpreter.
public struct Values: Sendable {
    public var shape: [Int]
    public var elements: [Double]

    public init(shape: [Int], elements: [Double]) {
        trap(unless: shape.reduce(1, *) == elements.count, "an array of \(shape) needs \(shape.reduce(1, *)) elements")
        self.shape = shape
        self.elements = elements
    }

    public init(shape: [Int], repeating value: Double = 0) {
        self.shape = shape
        elements = [Double](repeating: value, count: shape.reduce(1, *))
    }

    public var strides: [Int] {
        var result = [Int](repeating: 1, count: shape.count)
        for axis in stride(from: shape.count - 2, through: 0, by: -1) {
            result[axis] = result[axis + 1] * shape[axis + 1]
        }
        return result
    }
}

/// What an evaluation needs beyond its operands.
public struct EvaluationContext: Sendable {
    /// How many examples the batch holds in this run.
    public var batch: Int
    public var inputTypes: [ElementType]

    public init(batch: Int, inputTypes: [ElementType]) {
        self.batch = batch
        self.inputTypes = inputTypes
    }
}
