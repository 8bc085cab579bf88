import Kernels

/// A scalar function applied to every element; all operands have the same shape (broadcasting is an operation of its own).
public struct Elementwise: Operation, Hashable {
    public let function: ElementwiseFunction

    public init(_ function: ElementwiseFunction) { self.function = function }

    public var name: String { function.name }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        guard inputs.count == function.operandCount else {
            throw GraphError(operation: name, message: "takes \(function.operandCount) operands, found \(inputs.count)")
        }
        guard inputs.allSatisfy({ $0.shape == inputs[0].shape }) else {
            throw GraphError(
                operation: name,
                message: "operands have different shapes: \(inputs.map(\.description).joined(separator: " and "))")
        }
        guard let element = function.resultType(inputs.map(\.element)) else {
            throw GraphError(
                operation: name,
                message:
                    "is not defined for \(inputs.map(\.element.rawValue).joined(separator: ", ")); cast the operands first"
            )
        }
        return [TensorType(inputs[0].shape, element)]
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        guard context.knownValues.contains(where: { $0 != nil }) else { return context.inputs.map { _ in .same } }
        let own = knownValues(context)
        return context.inputs.indices.map { operand in
            if own == nil, context.knownValues[operand] == nil, function != .select { return .same }
            if context.knownValues[operand]?.isConstant == true { return .none }
            var reads = [Int32](repeating: -1, count: context.outputCount)
            for e in reads.indices where own?[e] == nil && context.knownValues[operand]?[e] == nil {
                if case .select = function, let condition = context.knownValues[0]?[e],
                    operand != (condition != 0 ? 1 : 2)
                {
                    continue
                }
                reads[e] = Int32(e)
            }
            return .table(reads)
        }
    }

    public func knownValues(_ context: RelationContext) -> KnownValues? {
        // Most functions are known where all operands are.
        guard context.knownValues.contains(where: { $0 != nil }),
            function.isAbsorbing || !context.knownValues.contains(nil)
        else {
            return nil
        }
        let type = context.inputs[0].elementType
        var result = KnownValues(
            isKnown: [Bool](repeating: false, count: context.outputCount),
            values: [Double](repeating: 0, count: context.outputCount))
        var operands = [Double?](repeating: nil, count: context.knownValues.count)
        for e in 0..<context.outputCount {
            for k in operands.indices { operands[k] = context.knownValues[k]?[e] }
            if let value = function.known(operands, type) {
                result.isKnown[e] = true
                result.values[e] = value
            }
        }
        return result.simplified
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let type = context.inputTypes[0]
        func compute(_ e: Int) {
            outputs[0].elements[e] =
                switch inputs.count {
                case 1: function(inputs[0].elements[e], type)
                case 2: function(inputs[0].elements[e], inputs[1].elements[e], type)
                default: function(inputs.map { $0.elements[e] }, type)
                }
        }
        if let elements { elements.forEach(compute) } else { outputs[0].elements.indices.forEach(compute) }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return inputs.map { _ in nil } }
        let x = inputs[0]
        let y = outputs[0]
        switch function {
        case .negate: return [-g]
        case .absolute: return [g * x.apply(.sign)]
        case .exp: return [g * y]
        case .log: return [g / x]
        case .log1p: return [g / (x + 1)]
        case .expm1: return [g * (y + 1)]
        case .sqrt: return [g * 0.5 / y]
        case .tanh: return [g * (1 - y * y)]
        case .sigmoid: return [g * y * (1 - y)]
        case .softplus: return [g * x.sigmoid()]
        case .relu: return [.select(y.greater(0), g, 0)]
        case .sin: return [g * x.apply(.cos)]
        case .cos: return [-g * x.apply(.sin)]
        case .erf: return [g * (-(x * x)).exp() * 1.1283791670955126]
        case .hazard:
            // Even, with a kink at zero, where the slope to the right is taken.
            let slope = y * (y - x.absolute())
            return [g * .select(x.less(0), -slope, slope)]
        case .cast:
            return [x.elementType.isFloatingPoint && g.elementType.isFloatingPoint ? g.cast(to: x.elementType) : nil]
        case .add: return [g, g]
        case .subtract: return [g, -g]
        case .multiply: return [g * inputs[1], g * x]
        case .divide: return [g / inputs[1], -g * y / inputs[1]]
        case .power:
            let p = inputs[1]
            let logBase = Tensor.select(x.greater(0), x, 1).log()
            return [g * p * x.power(p - 1), g * y * logBase]
        case .maximum, .minimum:
            let b = inputs[1]
            let first = function == .maximum ? x.greater(b) : x.less(b)
            let tied = x.equal(b)
            let number = { (value: Double) in Tensor.scalar(value, g.elementType) }
            let share = Tensor.select(first, number(1), .select(tied, number(0.5), number(0)))
            return [g * share, g * (1 - share)]
        case .select:
            return [nil, .select(x, g, 0), .select(x, 0, g)]
        case .sign, .floor, .isFinite, .logicalNot, .stopGradient, .less, .lessEqual, .equal, .logicalAnd, .logicalOr,
            .philox, .uniformFromBits, .normalFromBits:
            return inputs.map { _ in nil }
        }
    }
}

extension ElementwiseFunction {
    /// The element type of the result, `nil` if the function does not take such operands.
    public func resultType(_ types: [ElementType]) -> ElementType? {
        let first = types[0]
        switch self {
        case .exp, .log, .log1p, .expm1, .sqrt, .tanh, .sigmoid, .softplus, .floor, .sin, .cos, .erf, .hazard:
            return first.isFloatingPoint ? first : nil
        case .negate, .absolute, .sign, .relu:
            return first.isFloatingPoint || first == .int32 ? first : nil
        case .isFinite: return first.isFloatingPoint ? .bool : nil
        case .logicalNot: return first == .bool ? .bool : nil
        case .cast(let type): return type
        case .stopGradient: return first
        case .add, .subtract, .multiply, .maximum, .minimum:
            return types[1] == first && (first.isFloatingPoint || first == .int32) ? first : nil
        case .divide, .power: return types[1] == first && first.isFloatingPoint ? first : nil
        case .less, .lessEqual, .equal: return types[1] == first ? .bool : nil
        case .logicalAnd, .logicalOr: return first == .bool && types[1] == .bool ? .bool : nil
        case .select: return first == .bool && types[1] == types[2] ? types[1] : nil
        case .philox: return types.allSatisfy { $0 == .int32 } ? .int32 : nil
        case .uniformFromBits, .normalFromBits: return first == .int32 ? .float32 : nil
        }
    }

    /// Whether some value of one operand decides the result alone.
    var isAbsorbing: Bool {
        switch self {
        case .multiply, .divide, .add, .subtract, .logicalAnd, .logicalOr, .select: true
        default: false
        }
    }

    /// The result where it follows from the operands that are known.
    func known(_ operands: [Double?], _ type: ElementType) -> Double? {
        if !operands.contains(nil) {
            let values = operands.compactMap { $0 }
            return operands.count == 2 ? self(values[0], values[1], type) : self(values, type)
        }
        switch self {
        case .multiply: return operands.contains(0) ? 0 : nil
        case .divide: return operands[0] == 0 ? 0 : nil
        case .add: return operands.contains(-.infinity) ? -.infinity : nil
        case .subtract: return operands[0] == -.infinity ? -.infinity : nil
        case .logicalAnd: return operands.contains(0) ? 0 : nil
        case .logicalOr: return operands.contains(1) ? 1 : nil
        case .select: return operands[0].flatMap { $0 != 0 ? operands[1] : operands[2] }
        default: return nil
        }
    }

    /// One operand, in double precision.
    func callAsFunction(_ x: Double, _ type: ElementType) -> Double {
        switch self {
        case .negate: type == .int32 ? Double(0 &- Int32(x)) : -x
        case .absolute: type == .int32 ? Double(Int32(x) < 0 ? 0 &- Int32(x) : Int32(x)) : x.magnitude
        case .sign: x > 0 ? 1 : x < 0 ? -1 : x
        case .exp: Math.exp(x)
        case .log: Math.log(x)
        case .log1p: Math.log1p(x)
        case .expm1: Math.expm1(x)
        case .sqrt: x.squareRoot()
        case .tanh: Math.tanh(x)
        case .sigmoid: x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))
        case .softplus: x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x))
        case .relu: x < 0 ? 0 : x
        case .floor: x.rounded(.down)
        case .sin: Math.sin(x)
        case .cos: Math.cos(x)
        case .erf: Math.erf(x)
        case .hazard: Math.hazard(x)
        case .isFinite: x.isFinite ? 1 : 0
        case .logicalNot: x == 0 ? 1 : 0
        case .cast(let target):
            switch target {
            case .bool: x != 0 ? 1 : 0
            case .int32: x.isNaN ? 0 : Double(Int32(max(Double(Int32.min), min(Double(Int32.max), x))))
            case .uint8: x.isNaN ? 0 : Double(UInt8(max(0, min(255, x))))
            case .float32, .float64: x
            }
        case .stopGradient: x
        case .uniformFromBits: Double(UInt32(bitPattern: Int32(x)) >> 8) * 0x1p-24
        case .normalFromBits: Double(martlet_normal_from_bits(UInt32(bitPattern: Int32(x))))
        default: .nan
        }
    }

    /// Two operands, in double precision.
    func callAsFunction(_ a: Double, _ b: Double, _ type: ElementType) -> Double {
        let wraps = type == .int32
        return switch self {
        case .add: wraps ? Double(Int32(a) &+ Int32(b)) : a + b
        case .subtract: wraps ? Double(Int32(a) &- Int32(b)) : a - b
        case .multiply: wraps ? Double(Int32(a) &* Int32(b)) : a * b
        case .divide: a / b
        case .power: Math.pow(a, b)
        case .maximum: a.isNaN || b.isNaN ? .nan : Swift.max(a, b)
        case .minimum: a.isNaN || b.isNaN ? .nan : Swift.min(a, b)
        case .less: a < b ? 1 : 0
        case .lessEqual: a <= b ? 1 : 0
        case .equal: a == b ? 1 : 0
        case .logicalAnd: a != 0 && b != 0 ? 1 : 0
        case .logicalOr: a != 0 || b != 0 ? 1 : 0
        default: .nan
        }
    }

    /// Any number of operands, in double precision.
    func callAsFunction(_ operands: [Double], _ type: ElementType) -> Double {
        switch self {
        case .select: operands[0] != 0 ? operands[1] : operands[2]
        case .philox:
            {
                let words = operands.map { UInt32(bitPattern: Int32($0)) }
                return Double(
                    Int32(bitPattern: martlet_philox_word0(words[0], words[1], words[5], words[4], words[3], words[2])))
            }()
        default: operands.count == 2 ? self(operands[0], operands[1], type) : self(operands[0], type)
        }
    }
}
