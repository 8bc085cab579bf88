import CZip
import Graph

/// NumPy's array files (the format's versions 1 to 3), and zip archives of them.
public enum NumPy {
    /// One array of a `.npy` file.
    public static func read(npy path: String) throws(FileError) -> HostArray {
        try decode(try Files.read(path), path)
    }

    /// Every array of a `.npz` file, stored or deflated, by name.
    public static func read(npz path: String) throws(FileError) -> [String: HostArray] {
        _ = try Files.read(path)
        var code: Int32 = 0
        guard let archive = zip_open(path, ZIP_RDONLY, &code) else {
            throw FileError(
                path,
                "expected a zip archive of arrays (.npz), found something else (zip error \(code)); save it with numpy.savez"
            )
        }
        defer { zip_discard(archive) }
        var arrays: [String: HostArray] = [:]
        for index in 0..<zip_get_num_entries(archive, 0) {
            var status = zip_stat_t()
            guard zip_stat_index(archive, zip_uint64_t(index), 0, &status) == 0, let rawName = status.name else {
                throw FileError(path, "its directory is damaged; save it again with numpy.savez")
            }
            let name = String(cString: rawName)
            guard name.hasSuffix(".npy") else { continue }
            guard status.size <= 1 << 34 else {
                throw FileError(path, "\(name) claims \(status.size) bytes, more than the 16 GiB that are read")
            }
            guard let file = zip_fopen_index(archive, zip_uint64_t(index), 0) else {
                throw FileError(path, "\(name) cannot be read: \(String(cString: zip_strerror(archive)))")
            }
            defer { zip_fclose(file) }
            // Memory is taken as data arrives, not as the archive claims, and no more than the array's own header promises.
            let place = "\(path)(\(name))"
            let bytes = try Files.gather(place, limit: 1 << 34) { chunk throws(FileError) in
                let count = zip_fread(file, &chunk, zip_uint64_t(chunk.count))
                guard count >= 0 else {
                    throw FileError(path, "\(name) is damaged: \(String(cString: zip_file_strerror(file)))")
                }
                return Int(count)
            } promised: { bytes throws(FileError) in
                try Header(bytes, place)?.promised
            }
            guard bytes.count == Int(status.size) else {
                throw FileError(path, "\(name) ends after \(bytes.count) of \(status.size) bytes")
            }
            arrays[String(name.dropLast(4))] = try decode(bytes, place)
        }
        guard !arrays.isEmpty else { throw FileError(path, "holds no array; save arrays with numpy.savez") }
        return arrays
    }

    /// The array that a `.npy` file's bytes describe.
    static func decode(_ bytes: [UInt8], _ path: String) throws(FileError) -> HostArray {
        guard let header = try Header(bytes, path) else { throw FileError(path, "ends within its header") }
        let (shape, width) = (header.shape, header.width)
        guard bytes.count == header.promised else {
            throw FileError(
                path,
                "its header says \(shape) of \(width) bytes each, \(header.promised - header.start) in all, but \(bytes.count - header.start) follow"
            )
        }
        var body = Array(bytes[header.start...])
        if header.isFortran { body = rowMajor(body, shape, width: width) }
        func number(_ i: Int) -> UInt64 {
            (0..<width).reduce(0) { $0 | UInt64(body[i * width + $1]) << UInt64(8 * $1) }
        }
        switch header.element {
        case .stored(let type):
            if type == .bool, let strange = body.first(where: { $0 > 1 }) {
                throw FileError(path, "holds a boolean of value \(strange)")
            }
            return HostArray(type: type, shape: shape, bytes: body)
        case .half:
            return HostArray((0..<header.count).map { Float(half: UInt16(number($0))) }, shape: shape)
        case .integer(let isSigned):
            var integers: [Int32] = []
            integers.reserveCapacity(header.count)
            for i in 0..<header.count {
                let unused = UInt64(64 - 8 * width)
                let small =
                    isSigned
                    ? Int32(exactly: Int64(bitPattern: number(i) << unused) >> Int64(unused))
                    : Int32(exactly: number(i))
                guard let small else {
                    throw FileError(path, "element \(i) does not fit 32 bits; convert the array to float32 or int32")
                }
                integers.append(small)
            }
            return HostArray(integers, shape: shape)
        }
    }

    /// What a `.npy` file says of itself.
    private struct Header {
        enum Element {
            case stored(ElementType)
            /// Read as int32.
            case integer(isSigned: Bool)
            /// Read as float32.
            case half
        }

        let shape: [Int]
        let element: Element
        /// Bytes of an element.
        let width: Int
        let isFortran: Bool
        /// Where the elements begin.
        let start: Int
        let count: Int

        /// The size of the whole file.
        var promised: Int { start + count * width }

        /// - Returns: nil where the bytes end within the header.
        init?(_ bytes: [UInt8], _ path: String) throws(FileError) {
            guard bytes.count >= 10, Array(bytes[0..<6]) == [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59] else {
                throw FileError(path, "expected a NumPy array (.npy), found something else; save it with numpy.save")
            }
            let wide = bytes[6] >= 2
            guard (1...3).contains(bytes[6]), bytes.count >= (wide ? 12 : 10) else {
                throw FileError(path, "expected version 1 to 3 of the .npy format, found \(bytes[6]).\(bytes[7])")
            }
            let length = Int(bytes[8]) | Int(bytes[9]) << 8 | (wide ? Int(bytes[10]) << 16 | Int(bytes[11]) << 24 : 0)
            guard length <= 1 << 20 else { throw FileError(path, "claims a header of \(length) bytes") }
            start = (wide ? 12 : 10) + length
            guard start <= bytes.count else { return nil }
            let header = String(decoding: bytes[(wide ? 12 : 10)..<start], as: UTF8.self)
            guard let descriptor = field("descr", header, path)?.trimmingQuotes,
                let order = field("fortran_order", header, path),
                let shapeText = field("shape", header, path)
            else {
                throw FileError(path, "its header does not name descr, fortran_order and shape: \(header.prefix(80))")
            }
            isFortran = order == "True"
            var shape: [Int] = []
            for part in shapeText.dropFirst().dropLast().split(separator: ",") {
                let text = part.filter { $0 != " " && $0 != "L" }
                if text.isEmpty { continue }
                guard let extent = Int(text), extent >= 0 else {
                    throw FileError(path, "its shape is not made of numbers: \(shapeText)")
                }
                shape.append(extent)
            }
            // Without the zeros, so that the extents of a part do not overflow either.
            var count = 1
            for extent in shape where extent > 0 {
                let (product, overflow) = count.multipliedReportingOverflow(by: extent)
                guard !overflow, product <= 1 << 40 else { throw FileError(path, "its shape \(shape) is too large") }
                count = product
            }
            let types: [String: (Element, Int)] = [
                "u1": (.stored(.uint8), 1), "b1": (.stored(.bool), 1), "f2": (.half, 2), "f4": (.stored(.float32), 4),
                "f8": (.stored(.float64), 8), "i1": (.integer(isSigned: true), 1), "i2": (.integer(isSigned: true), 2),
                "i4": (.stored(.int32), 4), "i8": (.integer(isSigned: true), 8), "u2": (.integer(isSigned: false), 2),
                "u4": (.integer(isSigned: false), 4), "u8": (.integer(isSigned: false), 8),
            ]
            guard let (element, width) = types[String(descriptor.dropFirst())], descriptor.first != ">" || width == 1
            else {
                throw FileError(
                    path,
                    "holds elements of type \(descriptor); convert them to uint8, int32, float32 or float64 (little-endian)"
                )
            }
            (self.shape, self.element, self.width) = (shape, element, width)
            self.count = shape.contains(0) ? 0 : count
        }
    }

    /// Elements that lie with the first axis fastest, brought into the order of the last axis fastest.
    private static func rowMajor(_ bytes: [UInt8], _ shape: [Int], width: Int) -> [UInt8] {
        var strides = [Int](repeating: width, count: shape.count)
        for axis in shape.indices.dropFirst() { strides[axis] = strides[axis - 1] * shape[axis - 1] }
        var result = [UInt8](repeating: 0, count: bytes.count)
        var index = [Int](repeating: 0, count: shape.count)
        var source = 0
        for target in stride(from: 0, to: bytes.count, by: width) {
            for b in 0..<width { result[target + b] = bytes[source + b] }
            for axis in shape.indices.reversed() {
                index[axis] += 1
                source += strides[axis]
                if index[axis] < shape[axis] { break }
                source -= strides[axis] * shape[axis]
                index[axis] = 0
            }
        }
        return result
    }

    /// The text of a value in the header's dictionary.
    private static func field(_ name: String, _ header: String, _ path: String) -> String? {
        guard let key = header.firstRange(of: "'\(name)'") ?? header.firstRange(of: "\"\(name)\"") else { return nil }
        let rest = header[key.upperBound...].drop { $0 == ":" || $0 == " " }
        if rest.first == "(" { return rest.firstIndex(of: ")").map { String(rest[...$0]) } }
        return String(rest.prefix { $0 != "," && $0 != "}" }).trimmingSpaces
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

extension String {
    var trimmingQuotes: String { filter { $0 != "'" && $0 != "\"" && $0 != " " } }
    var trimmingSpaces: String { String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) }
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
