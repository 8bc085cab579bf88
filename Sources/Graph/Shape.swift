/// The type of a tensor's elements.
public enum ElementType: String, Hashable, Sendable, CaseIterable {
    case float32, float64, int32, uint8, bool

    /// Bytes of one element in a buffer; `bool` is stored as one byte, 0 or 1.
    public var byteCount: Int {
        switch self {
        case .float64: 8
        case .float32, .int32: 4
        case .uint8, .bool: 1
        }
    }

    public var isFloatingPoint: Bool { self == .float32 || self == .float64 }

    /// Whether the type has a number; floating-point types take any, rounded.
    func holds(_ value: Double) -> Bool {
        switch self {
        case .float32, .float64: true
        case .int32: Int32(exactly: value) != nil
        case .uint8: UInt8(exactly: value) != nil
        case .bool: value == 0 || value == 1
        }
    }
}

/// A count of elements that may grow with the batch: `coefficient * batch ^ power`.
///
/// Shapes are static but for the batch axis, whose extent is known when a program runs, up to the maximum that was
/// planned. Everything derived from a shape (strides, offsets, totals) is therefore a monomial in the batch.
public struct Extent: Hashable, Sendable, ExpressibleByIntegerLiteral {
    public var coefficient: Int
    public var power: Int

    public init(_ coefficient: Int, power: Int = 0) {
        self.coefficient = coefficient
        self.power = coefficient == 0 ? 0 : power
    }

    public init(integerLiteral value: Int) { self.init(value) }

    /// The run-time extent of the batch.
    public static let batch = Extent(1, power: 1)

    public var isStatic: Bool { power == 0 }
    public var isOne: Bool { self == 1 }

    /// The number that this extent stands for when the batch holds `batch` examples.
    public func resolved(batch: Int) -> Int {
        var result = coefficient
        for _ in 0..<power { result *= batch }
        return result
    }

    public static func * (a: Extent, b: Extent) -> Extent {
        Extent(a.coefficient * b.coefficient, power: a.power + b.power)
    }
}

extension Extent: CustomStringConvertible {
    public var description: String {
        switch (coefficient, power) {
        case (_, 0): "\(coefficient)"
        case (1, 1): "batch"
        case (_, 1): "\(coefficient)*batch"
        default: "\(coefficient)*batch^\(power)"
        }
    }
}

/// The extents of a tensor's axes, slowest first. `[.batch, 784]` is a batch of vectors.
public struct Shape: Hashable, Sendable, ExpressibleByArrayLiteral {
    public var dimensions: [Extent]

    public init(_ dimensions: [Extent]) { self.dimensions = dimensions }
    public init(_ dimensions: [Int]) { self.dimensions = dimensions.map { Extent($0) } }
    public init(arrayLiteral elements: Extent...) { dimensions = elements }

    public static let scalar = Shape([Extent]())

    public var rank: Int { dimensions.count }

    /// The extent of an axis; negative axes count from the end. An axis that is not there has no elements, so that a
    /// tensor whose construction failed can be asked for its shape.
    public subscript(axis: Int) -> Extent {
        let index = axis < 0 ? axis + rank : axis
        return dimensions.indices.contains(index) ? dimensions[index] : 0
    }

    /// The product of all extents.
    public var count: Extent { dimensions.reduce(1, *) }

    /// Whether some axis depends on the batch.
    public var isBatched: Bool { dimensions.contains { !$0.isStatic } }

    /// The position of the batch axis, if there is one.
    public var batchAxis: Int? { dimensions.firstIndex { !$0.isStatic } }

    public func resolved(batch: Int) -> [Int] { dimensions.map { $0.resolved(batch: batch) } }

    /// Strides, in elements, of a contiguous row-major tensor.
    public var strides: [Extent] {
        var result = [Extent](repeating: 1, count: rank)
        for axis in stride(from: rank - 2, through: 0, by: -1) {
            result[axis] = result[axis + 1] * dimensions[axis + 1]
        }
        return result
    }

    public func removing(axes: [Int]) -> Shape {
        Shape(dimensions.enumerated().filter { !axes.contains($0.offset) }.map(\.element))
    }
}

extension Shape: CustomStringConvertible {
    public var description: String { "[" + dimensions.map(\.description).joined(separator: ", ") + "]" }
}
