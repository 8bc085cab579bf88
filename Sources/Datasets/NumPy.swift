import CZip
import Graph

#if canImport(Glibc)
    import Glibc
#endif

/// NumPy's array files (the format's versions 1 to 3), and zip archives of them.
public enum NumPy {
    /// One array of a `.npy` file.
    public static func read(npy path: String) throws(FileError) -> HostArray {
        try decode(ByteStream(file: path))
    }

    /// Arrays of a `.npz` file, stored or deflated, by name.
    /// - Parameter names: those that are read; every one that holds numbers, if not given.
    public static func read(npz path: String, _ names: [String]? = nil) throws(FileError) -> [String: HostArray] {
        let archive = try NumPyArchive(path)
        var arrays: [String: HostArray] = [:]
        if let names, !names.allSatisfy(archive.names.contains) {
            throw FileError(
                path,
                "expected the array\(names.count == 1 ? "" : "s") \(names.joined(separator: ", ")), found \(archive.names.isEmpty ? "none" : archive.names.joined(separator: ", "))"
            )
        }
        let wanted = if let names { names } else { try archive.numeric() }
        for name in wanted { arrays[name] = try archive.read(name) }
        guard !arrays.isEmpty else { throw FileError(path, "holds no array; save arrays with numpy.savez") }
        return arrays
    }

    /// The array that a `.npy` file's bytes describe.
    /// - Parameter isNarrow: whether float64 becomes float32 as it is read.
    static func decode(_ stream: ByteStream, isNarrow: Bool = false) throws(FileError) -> HostArray {
        let header = try NumPyHeader(stream)
        let (shape, width) = (header.shape, header.width)
        switch header.element {
        case .stored(.float64) where isNarrow:
            return HostArray(
                type: .float32, shape: shape,
                bytes: try elements(stream, header) { (bits: UInt64) in Float(Double(bitPattern: bits)) })
        case .half:
            return HostArray(
                type: .float32, shape: shape,
                bytes: try elements(stream, header) { (bits: UInt16) in Float(half: bits) })
        case .integer(let isSigned):
            return HostArray(type: .int32, shape: shape, bytes: try integers(stream, header, isSigned: isSigned))
        case .stored(let type):
            let body =
                switch (header.isFortran, width) {
                case (false, _): try stream.rest(header.count * width, header: header.words)
                case (true, 1): try elements(stream, header) { (element: UInt8) in element }
                case (true, 4): try elements(stream, header) { (element: UInt32) in element }
                case (true, _): try elements(stream, header) { (element: UInt64) in element }
                }
            if type == .bool, let strange = body.first(where: { $0 > 1 }) {
                throw FileError(stream.name, "holds a boolean of value \(strange)")
            }
            return HostArray(type: type, shape: shape, bytes: body)
        }
    }

    /// Integers of another width than ours, each made an int32 as it is read.
    private static func integers(
        _ stream: ByteStream, _ header: NumPyHeader, isSigned: Bool
    ) throws(FileError) -> [UInt8] {
        func convert<T: FixedWidthInteger>(_: T.Type) throws(FileError) -> [UInt8] {
            try elements(stream, header) { (element: T) in Int32(exactly: element) }
        }
        return switch (header.width, isSigned) {
        case (1, _): try convert(Int8.self)
        case (2, true): try convert(Int16.self)
        case (2, false): try convert(UInt16.self)
        case (4, _): try convert(UInt32.self)
        case (_, true): try convert(Int64.self)
        case (_, false): try convert(UInt64.self)
        }
    }

    /// The elements, each made another as it is read, in the order of the last axis fastest.
    /// - Parameter value: `nil` where an integer is too large for ours.
    private static func elements<T: FixedWidthInteger, Element: BitwiseCopyable>(
        _ stream: ByteStream, _ header: NumPyHeader, _ value: (T) -> Element?
    ) throws(FileError) -> [UInt8] {
        let (width, size, count) = (header.width, MemoryLayout<Element>.size, header.count)
        try stream.require(count * width, header: header.words)
        try Memory.require(count * size, for: stream.name)
        var result = [UInt8](repeating: 0, count: count * size)
        var places = header.isFortran ? FortranPlaces(header.shape) : nil
        var (done, bad) = (0, -1)
        try stream.rest(count * width, header: header.words, part: 1 << 20) { part throws(FileError) in
            result.withUnsafeMutableBytes { result in
                for i in 0..<part.count / width {
                    guard let element = value(part.loadUnaligned(fromByteOffset: i * width, as: T.self)) else {
                        bad = bad < 0 ? done + i : bad
                        continue
                    }
                    let place = places?.next() ?? done + i
                    result.storeBytes(of: element, toByteOffset: place * size, as: Element.self)
                }
            }
            done += part.count / width
        }
        guard bad < 0 else {
            throw FileError(
                stream.name, "element \(bad) does not fit 32 bits; convert the array to float32 or int32")
        }
        return result
    }

    /// Integers of another width than ours.
    static func int32(_ body: [UInt8], width: Int, isSigned: Bool, _ path: String) throws(FileError) -> [Int32] {
        try Memory.require(body.count / width * 4, for: path)
        var bad: Int?
        func convert<T: FixedWidthInteger>(_: T.Type) -> [Int32] {
            body.withUnsafeBytes { bytes in
                (0..<bytes.count / width).map { i in
                    let value = bytes.loadUnaligned(fromByteOffset: i * width, as: T.self)
                    if let small = Int32(exactly: value) { return small }
                    bad = bad ?? i
                    return 0
                }
            }
        }
        let integers =
            switch (width, isSigned) {
            case (1, true): convert(Int8.self)
            case (1, false): convert(UInt8.self)
            case (2, true): convert(Int16.self)
            case (2, false): convert(UInt16.self)
            case (4, true): convert(Int32.self)
            case (4, false): convert(UInt32.self)
            case (_, true): convert(Int64.self)
            case (_, false): convert(UInt64.self)
            }
        if let bad {
            throw FileError(path, "element \(bad) does not fit 32 bits; convert the array to float32 or int32")
        }
        return integers
    }

    /// Elements of two bytes as float32.
    static func converted(_ body: [UInt8], _ path: String, _ value: (UInt16) -> Float) -> [Float] {
        body.withUnsafeBytes { bytes in
            (0..<bytes.count / 2).map { value(bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)) }
        }
    }

    /// Writes a `.npy` file of format version 1.
    public static func write(_ array: HostArray, npy path: String) throws(FileError) {
        let descriptor =
            switch array.type {
            case .float32: "<f4"
            case .float64: "<f8"
            case .int32: "<i4"
            case .uint8: "|u1"
            case .bool: "|b1"
            }
        let shape = array.shape.map { "\($0)," }.joined(separator: " ")
        var header = "{'descr': '\(descriptor)', 'fortran_order': False, 'shape': (\(shape)), }"
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"
        let length = header.utf8.count
        let front: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, UInt8(length & 255), UInt8(length >> 8)]
        try Files.write(front + Array(header.utf8) + array.bytes, to: path)
    }
}

/// The members of a `.npz` file, each of which is read when it is asked for.
final class NumPyArchive {
    let path: String
    /// Of the arrays, in the archive's order.
    private(set) var names: [String] = []
    private var indices: [String: Int64] = [:]
    private let archive: OpaquePointer

    init(_ path: String) throws(FileError) {
        // The library would wait for a pipe.
        let (descriptor, _) = try Files.openToRead(path)
        var code: Int32 = 0
        guard let archive = zip_fdopen(descriptor, 0, &code) else {
            Glibc.close(descriptor)
            throw FileError(
                path,
                "expected a zip archive of arrays (.npz), found something else (zip error \(code)); save it with numpy.savez"
            )
        }
        (self.path, self.archive) = (path, archive)
        for index in 0..<zip_get_num_entries(archive, 0) {
            guard let member = zip_get_name(archive, zip_uint64_t(index), 0) else {
                throw FileError(path, "its directory is damaged; save it again with numpy.savez")
            }
            let name = String(cString: member)
            guard name.hasSuffix(".npy") else { continue }
            names.append(String(name.dropLast(4)))
            indices[names.last!] = index
        }
    }

    deinit { zip_discard(archive) }

    /// An array that is there.
    func read(_ name: String, isNarrow: Bool = false) throws(FileError) -> HostArray {
        try NumPy.decode(open(name), isNarrow: isNarrow)
    }

    /// The names of the arrays that hold numbers: text and objects often lie beside them.
    func numeric() throws(FileError) -> [String] {
        var found: [String] = []
        var problem: FileError?
        for name in names {
            let member = try open(name)
            do throws(FileError) {
                _ = try NumPyHeader(member)
                found.append(name)
            } catch {
                problem = problem ?? error
            }
        }
        if found.isEmpty, let problem { throw problem }
        return found
    }

    private func open(_ name: String) throws(FileError) -> ByteStream {
        let (path, index) = (path, zip_uint64_t(indices[name]!))
        var status = zip_stat_t()
        guard zip_stat_index(archive, index, 0, &status) == 0, status.size <= 1 << 40 else {
            throw FileError(path, "its directory is damaged; save it again with numpy.savez")
        }
        guard let file = zip_fopen_index(archive, index, 0) else {
            throw FileError(path, "\(name).npy cannot be read: \(String(cString: zip_strerror(archive)))")
        }
        return ByteStream("\(path)(\(name).npy)", count: Int(status.size)) { buffer throws(FileError) in
            let count = zip_fread(file, buffer.baseAddress, zip_uint64_t(buffer.count))
            guard count >= 0 else {
                throw FileError(path, "\(name).npy is damaged: \(String(cString: zip_file_strerror(file)))")
            }
            return Int(count)
        } close: { [self] in
            // The archive is there until then.
            withExtendedLifetime(self) { _ = zip_fclose(file) }
        }
    }
}

/// Where each element stands in the order of the last axis fastest, of elements that lie with the first axis fastest.
private struct FortranPlaces {
    private let shape: [Int]
    private var strides: [Int]
    private var index: [Int]
    private var place = 0

    init(_ shape: [Int]) {
        self.shape = shape
        strides = [Int](repeating: 1, count: shape.count)
        for axis in shape.indices.dropLast().reversed() { strides[axis] = strides[axis + 1] * shape[axis + 1] }
        index = [Int](repeating: 0, count: shape.count)
    }

    mutating func next() -> Int {
        defer {
            for axis in shape.indices {
                index[axis] += 1
                place += strides[axis]
                if index[axis] < shape[axis] { break }
                place -= strides[axis] * shape[axis]
                index[axis] = 0
            }
        }
        return place
    }
}

extension Float {
    /// The value of an IEEE half-precision number.
    init(half bits: UInt16) {
        let (sign, exponent, fraction) = (UInt32(bits >> 15) << 31, Int(bits >> 10 & 31), UInt32(bits & 1023))
        let magnitude: Float =
            switch exponent {
            case 0: Float(fraction) * 0x1p-24
            case 31: fraction == 0 ? .infinity : .nan
            default: Float(bitPattern: UInt32(exponent + 112) << 23 | fraction << 13)
            }
        self = Float(bitPattern: magnitude.bitPattern | sign)
    }
}
