import Compiler
import Graph

/// An independent operation with an OpenCL face.
///
///     extension Neighbours: OpenCLElementOperation {            // y[i] = x[i] + x[i + 1], of [n + 1] elements
///         func elementOpenCL(_ context: OpenCLElementContext) -> String { "return x0[e] + x0[e + 1];" }
///     }
public protocol OpenCLElementOperation: Operation {
    /// The body of a function in OpenCL C 1.2 that returns element `e` (an `int`, flat and row-major) of the result. The operands are the
    /// arrays `x0`, `x1` and so on, row-major, of `float`, `int` or `uchar`. What it returns is a `float`, or an `int` of a whole type.
    func elementOpenCL(_ context: OpenCLElementContext) -> String
}

/// What an independent operation is told when it is lowered.
public struct OpenCLElementContext {
    /// The types of the operands and of the result.
    public let inputTypes: [TensorType]
    public let outputType: TensorType

    /// An extent as an expression: a number, or one of the `int` batch.
    public func text(_ extent: Extent) -> String {
        "(\(([String(extent.coefficient)] + [String](repeating: "batch", count: extent.power)).joined(separator: " * ")))"
    }
}

extension ElementsGroup: OpenCLGroup {
    /// An elementwise kernel that begins with the operation's element.
    public func lower(
        label: String, location: SourceLocation?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup {
        guard let face = operation as? any OpenCLElementOperation else {
            throw OpenCLError.unsupported(
                "\(label): the operation \(operation.name) does not run on OpenCL devices; use `--device cpu`, or give it "
                    + "an extension that conforms to OpenCLElementOperation")
        }
        let types = inputs.map { lowering.values[$0].type }
        var list = ParameterList()
        list.integer("batch", .integer { $0 })
        var parameters = ", const int batch"
        for (index, value) in inputs.enumerated() {
            let storage = elementStorage(types[index].element)
            list.pointer(storage, "element_x\(index)", .value(value), constant: true)
            parameters += ", __global const \(storage)* x\(index)"
        }
        let type = result.element == .float32 ? "float" : "int"
        let body = face.elementOpenCL(OpenCLElementContext(inputTypes: types, outputType: result))
        let function = """
            static inline \(type) MARTLET_NAME(KERNEL, _element)(const int e\(parameters)) {
            \(body)
            }

            """
        let call = elementFunction(openCL: "MARTLET_NAME(KERNEL, _element)($0\(list.furtherNames))")
        return try elementwise(call).lower(&lowering, after: function, further: list)
    }
}
