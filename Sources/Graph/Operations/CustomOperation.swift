/// A user's own kernel: shapes, a gradient, a dependency rule, its meaning in double precision, and how a CPU and an OpenCL
/// device run it.
///
///     let cube = CustomOperation(
///         "cube", outputType: { $0[0] },
///         gradient: { inputs, _, g in [g * inputs[0] * inputs[0] * 3] },
///         relations: { _ in [.same] },
///         evaluate: { inputs, output in for i in output.indices { output[i] = inputs[0][i] * inputs[0][i] * inputs[0][i] } },
///         cpu: { inputs, output in for i in output.indices { output[i] = inputs[0][i] * inputs[0][i] * inputs[0][i] } },
///         openCL: """
///             __kernel void cube(__global const float* x, __global float* y, int count) {
///                 const int i = get_global_id(0);
///                 if (i < count) y[i] = x[i] * x[i] * x[i];
///             }
///             """)
///     let y = cube(x)
public struct CustomOperation: Operation {
    public let name: String
    /// float32 operands and result, contiguous and row-major.
    public typealias CPUBody =
        @Sendable (_ inputs: [UnsafeBufferPointer<Float>], _ output: UnsafeMutableBufferPointer<Float>) -> Void

    let outputType: @Sendable ([TensorType]) throws(GraphError) -> TensorType
    let gradient: @Sendable (_ inputs: [Tensor], _ output: Tensor, _ g: Tensor) -> [Tensor?]
    let rule: @Sendable (RelationContext) -> [Relation]
    let meaning: @Sendable (_ inputs: [[Double]], _ output: inout [Double]) -> Void
    public let cpu: CPUBody
    /// OpenCL C 1.2 with one kernel of the operation's name: the inputs, the output, and the number of output elements, for each
    /// of which there is a work-item (and some to spare).
    public let openCL: String

    /// Two applications are the same work only if they are the same value; closures cannot be compared.
    public var key: AnyHashable? { nil }

    /// - Parameters:
    ///   - name: also the name of the OpenCL kernel.
    ///   - outputType: the shape rule.
    ///   - gradient: the gradient of each input from that of the output; `nil` where there is none.
    ///   - relations: which elements of each input an output element reads, one for every input; proofs and samplers believe it.
    public init(
        _ name: String, outputType: @escaping @Sendable ([TensorType]) throws(GraphError) -> TensorType,
        gradient: @escaping @Sendable (_ inputs: [Tensor], _ output: Tensor, _ g: Tensor) -> [Tensor?],
        relations: @escaping @Sendable (RelationContext) -> [Relation],
        evaluate: @escaping @Sendable (_ inputs: [[Double]], _ output: inout [Double]) -> Void, cpu: @escaping CPUBody,
        openCL: String
    ) {
        self.name = name
        self.outputType = outputType
        self.gradient = gradient
        rule = relations
        meaning = evaluate
        self.cpu = cpu
        self.openCL = openCL
    }

    public func callAsFunction(_ inputs: Tensor..., file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        Tensor(self, inputs, at: SourceLocation(file, line))
    }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let type = try outputType(inputs)
        guard (inputs + [type]).allSatisfy({ $0.element == .float32 }) else {
            throw GraphError(
                operation: name,
                message: "a custom operation takes and gives float32, found \(inputs.map(\.description)) and \(type)")
        }
        return [type]
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        outputGradients[0].map { gradient(inputs, outputs[0], $0) } ?? inputs.map { _ in nil }
    }

    public func relations(_ context: RelationContext) -> [Relation] { rule(context) }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        meaning(inputs.map(\.elements), &outputs[0].elements)
    }
}
