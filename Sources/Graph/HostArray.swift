/// A dense, contiguous, row-major array in host memory: what goes into a program and what comes out of it.
public struct HostArray: Sendable, Hashable {
    public let type: ElementType
    public let shape: [Int]
    /// `shape.product * type.byteCount` bytes in the machine's byte order.
    public private(set) var bytes: [UInt8]

    public var count: Int { shape.reduce(1, *) }

    public init(type: ElementType, shape: [Int], bytes: [UInt8]) {
        trap(unless: bytes.count == shape.reduce(1, *) * type.byteCount, "an array's bytes must fill its shape")
        self.type = type
        self.shape = shape
        self.bytes = bytes
    }

    /// Zeros.
    public init(type: ElementType, shape: [Int]) {
        self.init(type: type, shape: shape, bytes: [UInt8](repeating: 0, count: shape.reduce(1, *) * type.byteCount))
    }

    public init(_ values: [Float], shape: [Int]? = nil) { self.init(copying: values, .float32, shape) }
    public init(_ values: [Double], shape: [Int]? = nil) { self.init(copying: values, .float64, shape) }
    public init(_ values: [Int32], shape: [Int]? = nil) { self.init(copying: values, .int32, shape) }
    public init(_ values: [UInt8], shape: [Int]? = nil) { self.init(copying: values, .uint8, shape) }
    public init(_ values: [Bool], shape: [Int]? = nil) {
        self.init(copying: values.map { $0 ? 1 : 0 } as [UInt8], .bool, shape)
    }

    /// The elements of an interpreter's array, rounded to `type`; integers toward zero, and they must fit.
    public init(_ values: Values, as type: ElementType) {
        switch type {
        case .float32: self.init(values.elements.map { Float($0) }, shape: values.shape)
        case .float64: self.init(values.elements, shape: values.shape)
        case .int32: self.init(values.elements.map { Self.whole($0) as Int32 }, shape: values.shape)
        case .uint8: self.init(values.elements.map { Self.whole($0) as UInt8 }, shape: values.shape)
        case .bool: self.init(values.elements.map { $0 != 0 }, shape: values.shape)
        }
    }

    private static func whole<T: FixedWidthInteger>(_ value: Double) -> T {
        guard let whole = T(exactly: value.rounded(.towardZero)) else {
            fatalError("expected a number from \(T.min) to \(T.max), found \(value); use another element type")
        }
        return whole
    }

    /// Whether no element is NaN or infinite.
    public var isFinite: Bool {
        withUnsafeBytes { bytes in
            switch type {
            case .float32: bytes.bindMemory(to: Float.self).allSatisfy(\.isFinite)
            case .float64: bytes.bindMemory(to: Double.self).allSatisfy(\.isFinite)
            case .int32, .uint8, .bool: true
            }
        }
    }

    /// The first element that fulfils a condition, found without an array of all elements as doubles.
    public func firstIndex(where condition: (Double) -> Bool) -> Int? {
        withUnsafeBytes { bytes in
            switch type {
            case .float32: return bytes.bindMemory(to: Float.self).firstIndex { condition(Double($0)) }
            case .float64: return bytes.bindMemory(to: Double.self).firstIndex(where: condition)
            case .int32: return bytes.bindMemory(to: Int32.self).firstIndex { condition(Double($0)) }
            case .uint8, .bool:
                let verdicts = (0..<256).map { condition(Double($0)) }
                return verdicts.contains(true) ? bytes.firstIndex { verdicts[Int($0)] } : nil
            }
        }
    }

    /// The first element that is NaN, infinite, or infinite once it is float32, which is what programs take in.
    public var firstBeyondFloat32: Int? { firstIndex { !Float($0).isFinite } }

    /// One element, converted to `Double`; elements are counted as they lie.
    public func element(_ index: Int) -> Double {
        withUnsafeBytes { bytes in
            switch type {
            case .float32: Double(bytes.bindMemory(to: Float.self)[index])
            case .float64: bytes.bindMemory(to: Double.self)[index]
            case .int32: Double(bytes.bindMemory(to: Int32.self)[index])
            case .uint8, .bool: Double(bytes[index])
            }
        }
    }

    private init<T>(copying values: [T], _ type: ElementType, _ shape: [Int]?) {
        let bytes = values.withUnsafeBytes { [UInt8]($0) }
        self.init(type: type, shape: shape ?? [values.count], bytes: bytes)
    }

    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try bytes.withUnsafeBytes(body)
    }

    public mutating func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows -> R {
        try bytes.withUnsafeMutableBytes(body)
    }

    /// The elements converted to `Float`.
    public var floats: [Float] {
        withUnsafeBytes { bytes in
            switch type {
            case .float32: load(Float.self)
            case .float64: bytes.bindMemory(to: Double.self).map { Float($0) }
            case .int32: bytes.bindMemory(to: Int32.self).map { Float($0) }
            case .uint8, .bool: bytes.map { Float($0) }
            }
        }
    }

    /// The elements converted to `Double`.
    public var doubles: [Double] {
        switch type {
        case .float32: load(Float.self).map { Double($0) }
        case .float64: load(Double.self)
        case .int32: load(Int32.self).map { Double($0) }
        case .uint8, .bool: bytes.map { Double($0) }
        }
    }

    /// The elements of an int32 array.
    public var integers: [Int32] { type == .int32 ? load(Int32.self) : doubles.map { Int32($0) } }

    public var values: Values { Values(shape: shape, elements: doubles) }

    public func reshaped(_ shape: [Int]) -> HostArray { HostArray(type: type, shape: shape, bytes: bytes) }

    /// Rows `range` along the first axis.
    public func rows(_ range: Range<Int>) -> HostArray {
        let row = shape.dropFirst().reduce(1, *) * type.byteCount
        return HostArray(
            type: type, shape: [range.count] + shape.dropFirst(),
            bytes: [UInt8](bytes[range.lowerBound * row..<range.upperBound * row]))
    }

    /// Some rows, in the given order.
    public func rows(_ chosen: [Int]) -> HostArray {
        let row = shape.dropFirst().reduce(1, *) * type.byteCount
        var gathered: [UInt8] = []
        gathered.reserveCapacity(chosen.count * row)
        for index in chosen { gathered += bytes[index * row..<(index + 1) * row] }
        return HostArray(type: type, shape: [chosen.count] + shape.dropFirst(), bytes: gathered)
    }

    private func load<T>(_: T.Type) -> [T] {
        bytes.withUnsafeBytes { source in
            [T](unsafeUninitializedCapacity: count) { target, filled in
                UnsafeMutableRawBufferPointer(target).copyMemory(from: source)
                filled = count
            }
        }
    }
}
