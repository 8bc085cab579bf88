/// A scalar function: one row of the table of functions from which every elementwise computation is built.
///
/// A row says everything about its function: what it takes and gives, what it means in double precision, its derivative, and its text on
/// OpenCL devices. Chains of such functions are fused into one kernel. The processor runs the vector function that has the row's name
/// (`Sources/CPUKernels/vector_functions.h`), or else the meaning, element by element, so that a row alone is enough:
///
///     extension ElementwiseFunction {
///         /// x^3
///         static let cube = ElementwiseFunction(
///             "cube", meaning: .unary { x, _ in x * x * x },
///             gradient: { x, _, g in [g * x[0] * x[0] * 3] },
///             openCL: .expression("$0 * $0 * $0"))
///     }
///     let y = x.apply(.cube)
///
/// Two functions are equal if they are the same row.
public struct ElementwiseFunction: Sendable {
    let row: Row

    /// - Parameters:
    ///   - name: as messages, listings and the processor's vector functions know it. No other function may have it.
    ///   - cost: what the compiler reckons an element to cost.
    ///   - types: the element type of the result from those of the operands, `nil` where it does not take them. If not given, the function
    ///     takes floating-point numbers of one type and gives such a number.
    ///   - meaning: the result, in double precision.
    ///   - known: the result where it follows from the operands that are known (`nil` for the others): a product is zero where a factor
    ///     is. If not given, a result is known where all operands are.
    ///   - ignores: whether an operand is not read, given what is known of each: a choice whose condition is known reads one value only.
    ///   - simplified: a simpler tensor that is equal, from the operands, the value of each that is one constant everywhere, and the place
    ///     in the source.
    ///   - gradient: from the operands x, the result y and its gradient g the gradient of each operand, `nil` where there is none.
    ///   - openCL: how a kernel computes it.
    public init(
        _ name: String, cost: Cost = .usual, types: (@Sendable ([ElementType]) -> ElementType?)? = nil,
        meaning: Meaning, known: (@Sendable ([Double?]) -> Double?)? = nil,
        ignores: (@Sendable (_ operand: Int, _ known: (Int) -> Double?) -> Bool)? = nil,
        simplified: Simplification? = nil,
        gradient: @escaping @Sendable (_ x: [Tensor], _ y: Tensor, _ g: Tensor) -> [Tensor?], openCL: OpenCLText
    ) {
        row = Row(
            name: name, cost: cost, types: types ?? Self.floatingPoint, meaning: meaning, known: known,
            ignores: ignores, simplified: simplified, gradient: gradient, openCL: openCL, conversion: nil)
    }

    /// The conversion to a type, which backends write themselves: it depends on both types.
    init(conversionTo type: ElementType) {
        row = Row(
            name: "cast(\(type))", cost: .usual, types: { _ in type },
            meaning: .unary { x, _ in type.converted(x) }, known: nil, ignores: nil, simplified: nil,
            gradient: { x, _, g in
                [x[0].elementType.isFloatingPoint && g.elementType.isFloatingPoint ? g.cast(to: x[0].elementType) : nil]
            }, openCL: .conversion, conversion: type)
    }

    /// What the compiler reckons an element to cost.
    public enum Cost: Sendable {
        /// About as little as reading a number. Readers may compute it again from what they read anyway, instead of reading it.
        case little
        case usual
        /// About as much as exp's, many times a sum's.
        case transcendental
    }

    /// The result for one element, in double precision. The type is that of the operands (of the first, where they differ); numbers of
    /// whole types are whole, and truth values 0 and 1.
    public enum Meaning: Sendable {
        case unary(@Sendable (Double, ElementType) -> Double)
        case binary(@Sendable (Double, Double, ElementType) -> Double)
        case operands(Int, @Sendable ([Double], ElementType) -> Double)

        var operandCount: Int {
            switch self {
            case .unary: 1
            case .binary: 2
            case .operands(let count, _): count
            }
        }
    }

    /// How a kernel in OpenCL C computes it, for one element and for sixteen at once (`float16`).
    public enum OpenCLText: Sendable {
        /// An expression of the operands `$0`, `$1` and so on, with `$F` and `$I` for the types of floats and of whole numbers; truth
        /// values are whole numbers, 0 or 1, and a choice is `martlet_select(condition, a, b)`, where the condition is a comparison.
        /// Sums and products are rounded one by one.
        /// - Parameter integers: the expression where the operands are whole numbers, if another.
        case expression(String, integers: String? = nil)
        /// A function of the language, which has it for numbers and for vectors.
        case function(String)
        /// A function of its own, `$F NAME($F x0, $F x1, ..)` by its body (`return .. ;`), in which `$F` stands for the type.
        case body(String)
        /// An expression for one element at a time, `$0` and so on being numbers; functions of MartletRandom.h may be among it.
        case single(String)
        case conversion
    }

    /// A simpler tensor that is equal, `nil` if there is none.
    public typealias Simplification =
        @Sendable (_ operands: [Tensor], _ constants: [Double?], _ location: SourceLocation?) -> Tensor?

    final class Row: Sendable {
        let name: String
        let cost: Cost
        let types: @Sendable ([ElementType]) -> ElementType?
        let meaning: Meaning
        let known: (@Sendable ([Double?]) -> Double?)?
        let ignores: (@Sendable (Int, (Int) -> Double?) -> Bool)?
        let simplified: Simplification?
        let gradient: @Sendable ([Tensor], Tensor, Tensor) -> [Tensor?]
        let openCL: OpenCLText
        let conversion: ElementType?

        init(
            name: String, cost: Cost, types: @escaping @Sendable ([ElementType]) -> ElementType?, meaning: Meaning,
            known: (@Sendable ([Double?]) -> Double?)?, ignores: (@Sendable (Int, (Int) -> Double?) -> Bool)?,
            simplified: Simplification?,
            gradient: @escaping @Sendable ([Tensor], Tensor, Tensor) -> [Tensor?], openCL: OpenCLText,
            conversion: ElementType?
        ) {
            self.name = name
            self.cost = cost
            self.types = types
            self.meaning = meaning
            self.known = known
            self.ignores = ignores
            self.simplified = simplified
            self.gradient = gradient
            self.openCL = openCL
            self.conversion = conversion
        }
    }
}

extension ElementwiseFunction: Hashable {
    public static func == (a: ElementwiseFunction, b: ElementwiseFunction) -> Bool { a.row === b.row }
    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(row)) }
}

extension ElementwiseFunction {
    public var name: String { row.name }
    public var operandCount: Int { row.meaning.operandCount }
    public var cost: Cost { row.cost }
    public var openCL: OpenCLText { row.openCL }
    /// The type that a conversion converts to; `nil` for every other function.
    public var conversion: ElementType? { row.conversion }

    /// The element type of the result, `nil` if the function does not take such operands.
    public func resultType(_ types: [ElementType]) -> ElementType? { row.types(types) }

    /// The result where it follows from the operands that are known.
    func known(_ operands: [Double?], _ type: ElementType) -> Double? {
        if !operands.contains(nil) { return self(operands.map { $0! }, type) }
        return row.known?(operands)
    }

    /// Whether some value of one operand decides the result alone.
    var isAbsorbing: Bool { row.known != nil }

    /// The value, in double precision.
    /// - Parameter type: of the operands (of the first, where they differ).
    public func callAsFunction(_ operands: [Double], _ type: ElementType) -> Double {
        switch row.meaning {
        case .unary(let function): function(operands[0], type)
        case .binary(let function): function(operands[0], operands[1], type)
        case .operands(_, let function): function(operands, type)
        }
    }

    private static let floatingPoint: @Sendable ([ElementType]) -> ElementType? = { types in
        types[0].isFloatingPoint && types.allSatisfy { $0 == types[0] } ? types[0] : nil
    }
}

extension ElementType {
    /// A number in this type: truncated toward zero by whole types, the nearest where it holds no such number, and zero for NaN.
    fileprivate func converted(_ x: Double) -> Double {
        switch self {
        case .bool: x != 0 ? 1 : 0
        case .int32: x.isNaN ? 0 : Double(Int32(Swift.max(Double(Int32.min), Swift.min(Double(Int32.max), x))))
        case .uint8: x.isNaN ? 0 : Double(UInt8(Swift.max(0, Swift.min(255, x))))
        case .float32, .float64: x
        }
    }
}
