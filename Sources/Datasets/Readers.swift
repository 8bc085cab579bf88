import CZip
import Graph

/// The idx format of the MNIST files, plain or compressed with gzip: big-endian extents, unsigned bytes.
public enum IDX {
    public static func read(_ path: String) throws(FileError) -> HostArray {
        guard Files.exists(path) else { throw FileError(path, "cannot be opened: no such file") }
        guard let file = gzopen(path, "rb") else { throw FileError(path, "cannot be opened") }
        defer { gzclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = gzread(file, &chunk, UInt32(chunk.count))
            guard count >= 0 else { throw FileError(path, "its compressed data is damaged") }
            if count == 0 { break }
            bytes += chunk[..<Int(count)]
            guard bytes.count <= 1 << 33 else { throw FileError(path, "is larger than the 8 GiB that are read") }
        }
        var code: Int32 = 0
        _ = gzerror(file, &code)
        guard code == Z_OK || code == Z_STREAM_END else { throw FileError(path, "ends within its compressed data") }
        guard bytes.count >= 4, bytes[0] == 0, bytes[1] == 0, bytes[2] == 8, (1...4).contains(bytes[3]) else {
            throw FileError(
                path,
                "expected an idx file of unsigned bytes (it begins 0, 0, 8, rank), found \(bytes.prefix(4).map { $0 })")
        }
        let rank = Int(bytes[3])
        guard bytes.count >= 4 + 4 * rank else { throw FileError(path, "ends within its header") }
        var shape: [Int] = []
        var count = 1
        for axis in 0..<rank {
            let extent = bytes[4 + 4 * axis..<8 + 4 * axis].reduce(0) { $0 << 8 | Int($1) }
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard !overflow else { throw FileError(path, "its shape is too large") }
            shape.append(extent)
            count = product
        }
        guard bytes.count == 4 + 4 * rank + count else {
            throw FileError(path, "its header says \(shape), \(count) bytes, but \(bytes.count - 4 - 4 * rank) follow")
        }
        return HostArray(type: .uint8, shape: shape, bytes: Array(bytes[(4 + 4 * rank)...]))
    }
}

/// Numbers separated by commas, one row a line.
public enum CSV {
    /// A `[rows, columns]` float32 array. A first line without numbers is a heading and is passed over.
    public static func read(_ path: String) throws(FileError) -> HostArray {
        let text = String(decoding: try Files.read(path, limit: 1 << 32), as: UTF8.self)
        var values: [Float] = []
        var columns: Int?
        var rows = 0
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let cells = line.split(separator: ",", omittingEmptySubsequences: false).map { String($0).trimmingSpaces }
            if cells == [""] { continue }
            let parsed = cells.map { Float($0) }
            if number == 0, parsed.allSatisfy({ $0 == nil }) { continue }
            if let bad = parsed.firstIndex(where: { $0 == nil }) {
                throw FileError(
                    path, "line \(number + 1), column \(bad + 1): expected a number, found “\(cells[bad].prefix(40))”")
            }
            if let columns, columns != cells.count {
                throw FileError(path, "line \(number + 1): expected \(columns) columns, found \(cells.count)")
            }
            columns = cells.count
            values += parsed.map { $0! }
            rows += 1
        }
        guard let columns else { throw FileError(path, "holds no numbers") }
        return HostArray(values, shape: [rows, columns])
    }
}

/// Any file of one array, by its ending.
public enum ArrayFile {
    /// - Parameter name: which array to take from an archive.
    public static func read(_ path: String, name: String? = nil) throws(FileError) -> HostArray {
        let plain = path.hasSuffix(".gz") ? String(path.dropLast(3)) : path
        if plain.hasSuffix(".npy") { return try NumPy.read(npy: path) }
        if plain.hasSuffix(".csv") { return try CSV.read(path) }
        if plain.hasSuffix("ubyte") || plain.hasSuffix(".idx") { return try IDX.read(path) }
        if plain.hasSuffix(".npz") {
            let arrays = try NumPy.read(npz: path)
            if let name, let array = arrays[name] { return array }
            if arrays.count == 1, let only = arrays.values.first { return only }
            throw FileError(
                path,
                "expected an array \(name.map { "“\($0)”" } ?? "alone"), found \(arrays.keys.sorted().joined(separator: ", "))"
            )
        }
        throw FileError(path, "expected a name that ends in .npy, .npz, .csv, .idx or -ubyte (.gz allowed)")
    }
}
