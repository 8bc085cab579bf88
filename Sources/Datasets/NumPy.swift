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
            // Memory is taken as data arrives, not as the archive claims.
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 1 << 20)
            while true {
                let count = zip_fread(file, &chunk, zip_uint64_t(chunk.count))
                guard count >= 0 else {
                    throw FileError(path, "\(name) is damaged: \(String(cString: zip_file_strerror(file)))")
                }
                if count == 0 { break }
                bytes += chunk[..<Int(count)]
                guard bytes.count <= 1 << 34 else {
                    throw FileError(path, "\(name) is larger than the 16 GiB that are read")
                }
            }
            guard bytes.count == Int(status.size) else {
                throw FileError(path, "\(name) ends after \(bytes.count) of \(status.size) bytes")
            }
            arrays[String(name.dropLast(4))] = try decode(bytes, "\(path)(\(name))")
        }
        guard !arrays.isEmpty else { throw FileError(path, "holds no array; save arrays with numpy.savez") }
        return arrays
    }

    /// The array that a `.npy` file's bytes describe.
    static func decode(_ bytes: [UInt8], _ path: String) throws(FileError) -> HostArray {
        guard bytes.count >= 10, Array(bytes[0..<6]) == [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59] else {
            throw FileError(path, "expected a NumPy array (.npy), found something else; save it with numpy.save")
        }
        let wide = bytes[6] >= 2
        guard (1...3).contains(bytes[6]), bytes.count >= (wide ? 12 : 10) else {
            throw FileError(path, "expected version 1 to 3 of the .npy format, found \(bytes[6]).\(bytes[7])")
        }
        let length = Int(bytes[8]) | Int(bytes[9]) << 8 | (wide ? Int(bytes[10]) << 16 | Int(bytes[11]) << 24 : 0)
        let start = (wide ? 12 : 10) + length
        guard start <= bytes.count else { throw FileError(path, "ends within its header") }
        let header = String(decoding: bytes[(wide ? 12 : 10)..<start], as: UTF8.self)
        guard let descriptor = field("descr", header, path)?.trimmingQuotes,
            let order = field("fortran_order", header, path),
            let shapeText = field("shape", header, path)
        else { throw FileError(path, "its header does not name descr, fortran_order and shape: \(header.prefix(80))") }
        guard order == "False" else {
            throw FileError(path, "is in Fortran order; save numpy.ascontiguousarray(array) instead")
        }
        var shape: [Int] = []
        for part in shapeText.dropFirst().dropLast().split(separator: ",") {
            let text = part.filter { $0 != " " && $0 != "L" }
            if text.isEmpty { continue }
            guard let extent = Int(text), extent >= 0 else {
                throw FileError(path, "its shape is not made of numbers: \(shapeText)")
            }
            shape.append(extent)
        }
        var count = 1
        for extent in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard !overflow, product <= 1 << 40 else { throw FileError(path, "its shape \(shape) is too large") }
            count = product
        }
        let types: [String: (ElementType?, Int)] = [
            "u1": (.uint8, 1), "b1": (.bool, 1), "f4": (.float32, 4), "f8": (.float64, 8), "i4": (.int32, 4),
            "i8": (nil, 8), "i1": (nil, 1),
            "u2": (nil, 2), "i2": (nil, 2),
        ]
        guard let (type, width) = types[String(descriptor.dropFirst())], descriptor.first != ">" || width == 1 else {
            throw FileError(
                path,
                "holds elements of type \(descriptor); convert them to uint8, int32, float32 or float64 (little-endian)"
            )
        }
        guard bytes.count - start == count * width else {
            throw FileError(
                path,
                "its header says \(shape) of \(width) bytes each, \(count * width) in all, but \(bytes.count - start) follow"
            )
        }
        let body = Array(bytes[start...])
        if type == .bool, let strange = body.first(where: { $0 > 1 }) {
            throw FileError(path, "holds a boolean of value \(strange)")
        }
        if let type { return HostArray(type: type, shape: shape, bytes: body) }
        var integers: [Int32] = []
        integers.reserveCapacity(count)
        for i in 0..<count {
            var value: Int64 = 0
            for b in 0..<width { value |= Int64(body[i * width + b]) << Int64(8 * b) }
            if descriptor.dropFirst().first == "i", width < 8 {
                value = (value << Int64(64 - 8 * width)) >> Int64(64 - 8 * width)
            }
            guard let small = Int32(exactly: value) else {
                throw FileError(path, "element \(i) is \(value), which does not fit 32 bits")
            }
            integers.append(small)
        }
        return HostArray(integers, shape: shape)
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
