/// A dense, contiguous, row-major array in host memory: what goes into a program and what comes out of it. Neighbouring rows of an
/// array share its memory.
public struct HostArray: Sendable {
    public let type: ElementType
    public private(set) var shape: [Int]
    private var storage: [UInt8]
    /// Where the array begins in its storage.
    private var start = 0

    public var count: Int { shape.reduce(1, *) }

    public private(set) var byteCount: Int

    /// `byteCount` bytes in the machine's byte order; a copy where the array is a part of another.
    public var bytes: [UInt8] { isWhole ? storage : [UInt8](storage[start..<start + byteCount]) }

    private var isWhole: Bool { start == 0 && storage.count == byteCount }

    public init(type: ElementType, shape: [Int], bytes: [UInt8]) {
        trap(unless: bytes.count == shape.reduce(1, *) * type.byteCount, "an array's bytes must fill its shape")
        self.init(type, shape, storage: bytes, start: 0)
    }

    private init(_ type: ElementType, _ shape: [Int], storage: [UInt8], start: Int) {
        (self.type, self.shape, self.storage, self.start) = (type, shape, storage, start)
        byteCount = shape.reduce(1, *) * type.byteCount
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
        try storage.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start..<start + byteCount])) }
    }

    public mutating func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows -> R {
        if !isWhole { (storage, start) = (bytes, 0) }
        return try storage.withUnsafeMutableBytes(body)
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
        case .uint8, .bool: withUnsafeBytes { $0.map { Double($0) } }
        }
    }

    /// The elements of an int32 array.
    public var integers: [Int32] { type == .int32 ? load(Int32.self) : doubles.map { Int32($0) } }

    public var values: Values { Values(shape: shape, elements: doubles) }

    /// The same elements under another shape of as many.
    public func reshaped(_ shape: [Int]) -> HostArray {
        trap(unless: shape.reduce(1, *) == count, "a shape \(shape) cannot hold the \(count) elements of \(self.shape)")
        return HostArray(type, shape, storage: storage, start: start)
    }

    private var rowBytes: Int { shape.dropFirst().reduce(1, *) * type.byteCount }

    /// Rows `range` along the first axis.
    public func rows(_ range: Range<Int>) -> HostArray {
        trap(
            unless: range.lowerBound >= 0 && range.upperBound <= shape[0],
            "rows \(range) were asked of an array of \(shape[0])")
        return HostArray(
            type, [range.count] + shape.dropFirst(), storage: storage, start: start + range.lowerBound * rowBytes)
    }

    /// Some rows, in the given order.
    public func rows(_ chosen: [Int]) -> HostArray {
        let row = rowBytes
        var gathered: [UInt8] = []
        gathered.reserveCapacity(chosen.count * row)
        for index in chosen {
            let begin = start + index * row
            gathered += storage[begin..<begin + row]
        }
        return HostArray(type: type, shape: [chosen.count] + shape.dropFirst(), bytes: gathered)
    }

    private func load<T>(_: T.Type) -> [T] {
        withUnsafeBytes { source in
            [T](unsafeUninitializedCapacity: count) { target, filled in
                UnsafeMutableRawBufferPointer(target).copyMemory(from: source)
                filled = count
            }
        }
    }
}

extension HostArray: Hashable {
    public static func == (a: HostArray, b: HostArray) -> Bool {
        guard a.type == b.type, a.shape == b.shape else { return false }
        if a.isWhole, b.isWhole { return a.storage == b.storage }
        return a.withUnsafeBytes { a in b.withUnsafeBytes { b in a.elementsEqual(b) } }
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(type)
        hasher.combine(shape)
        withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

// MARK: changes that take no second array's memory

extension HostArray {
    /// Brings the rows into another order: row i becomes what was row `order[i]`.
    /// - Parameter order: every row once.
    public mutating func permuteRows(_ order: [Int]) {
        trap(unless: order.count == shape[0], "an order of \(order.count) rows was given for \(shape[0])")
        let row = rowBytes
        guard row > 0 else { return }
        withUnsafeMutableBytes { bytes in
            var isDone = [Bool](repeating: false, count: order.count)
            let base = bytes.baseAddress!
            let saved = UnsafeMutableRawPointer.allocate(byteCount: row, alignment: 8)
            defer { saved.deallocate() }
            for first in order.indices where !isDone[first] {
                // Along a cycle every row takes the place of the one before, and the first that of the last.
                saved.copyMemory(from: base + first * row, byteCount: row)
                var place = first
                while true {
                    isDone[place] = true
                    let source = order[place]
                    if source == first { break }
                    (base + place * row).copyMemory(from: base + source * row, byteCount: row)
                    place = source
                }
                (base + place * row).copyMemory(from: saved, byteCount: row)
            }
        }
    }

    /// Leaves out the columns of a matrix that are not named.
    /// - Parameter columns: ascending.
    public mutating func keepColumns(_ columns: [Int]) {
        trap(unless: shape.count == 2, "columns are those of a matrix; the shape is \(shape)")
        let (size, width, rows) = (type.byteCount, shape[1], shape[0])
        withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            var target = base
            for row in 0..<rows {
                for column in columns {
                    // Never before what is still to be read.
                    target.copyMemory(from: base + (row * width + column) * size, byteCount: size)
                    target += size
                }
            }
        }
        shape[1] = columns.count
        byteCount = rows * columns.count * size
        storage.removeLast(storage.count - byteCount)
    }
}
