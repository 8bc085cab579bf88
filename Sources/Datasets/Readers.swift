import CZip
import Graph

/// The idx format of the MNIST files, plain or compressed with gzip: big-endian extents, unsigned bytes.
public enum IDX {
    public static func read(_ path: String) throws(FileError) -> HostArray {
        try Files.requireFile(path)
        guard let file = gzopen(path, "rb") else { throw FileError(path, "cannot be opened") }
        defer { gzclose(file) }
        let bytes = try Files.gather(path, limit: 1 << 33) { chunk throws(FileError) in
            let count = gzread(file, &chunk, UInt32(chunk.count))
            guard count >= 0 else { throw FileError(path, "its compressed data is damaged") }
            return Int(count)
        } promised: { bytes throws(FileError) in
            try header(bytes, path).map { $0.start + $0.shape.reduce(1, *) }
        }
        var code: Int32 = 0
        _ = gzerror(file, &code)
        guard code == Z_OK || code == Z_STREAM_END else { throw FileError(path, "ends within its compressed data") }
        guard let (shape, start) = try header(bytes, path) else { throw FileError(path, "ends within its header") }
        let count = shape.reduce(1, *)
        guard bytes.count == start + count else {
            throw FileError(path, "its header says \(shape), \(count) bytes, but \(bytes.count - start) follow")
        }
        return HostArray(type: .uint8, shape: shape, bytes: Array(bytes[start...]))
    }

    /// The extents, and where the elements begin; nil where the bytes end before that.
    private static func header(_ bytes: [UInt8], _ path: String) throws(FileError) -> (shape: [Int], start: Int)? {
        guard bytes.count >= 4, bytes[0] == 0, bytes[1] == 0, bytes[2] == 8, (1...4).contains(bytes[3]) else {
            throw FileError(
                path,
                "expected an idx file of unsigned bytes (it begins 0, 0, 8, rank), found \(bytes.prefix(4).map { $0 })")
        }
        let start = 4 + 4 * Int(bytes[3])
        guard bytes.count >= start else { return nil }
        let shape = stride(from: 4, to: start, by: 4).map { bytes[$0..<$0 + 4].reduce(0) { $0 << 8 | Int($1) } }
        // Without the zeros, so that the extents of a part do not overflow either.
        guard shape.reduce(1.0, { $0 * Double(max(1, $1)) }) < 0x1p40 else {
            throw FileError(path, "its shape is too large")
        }
        return (shape, start)
    }
}

/// Numbers separated by commas, one row a line.
public enum CSV {
    /// A `[rows, columns]` float32 array. A first line without numbers is a heading and is passed over.
    public static func read(_ path: String) throws(FileError) -> HostArray {
        var text = Substring(decoding: try Files.read(path, limit: 1 << 32), as: UTF8.self)
        // Spreadsheets begin with a byte-order mark.
        if text.first == "\u{FEFF}" { text.removeFirst() }
        var values: [Float] = []
        var columns: Int?
        var rows = 0
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let cells = line.split(separator: ",", omittingEmptySubsequences: false).map {
                unquoted(String($0).trimmingSpaces)
            }
            if cells == [""] { continue }
            // A number ends where C's strings do; what follows a zero byte would be passed over.
            let parsed = cells.map { $0.utf8.contains(0) ? nil : Float($0) }
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

/// What stands between quotation marks.
private func unquoted(_ cell: String) -> String {
    cell.count >= 2 && cell.first == "\"" && cell.last == "\"" ? String(cell.dropFirst().dropLast()) : cell
}

/// Any file of one array, by its ending.
public enum ArrayFile {
    /// - Parameter name: which array to take from an archive.
    public static func read(_ path: String, name: String? = nil) throws(FileError) -> HostArray {
        if path.hasSuffix(".npy") { return try NumPy.read(npy: path) }
        if path.hasSuffix(".csv") { return try CSV.read(path) }
        if ["ubyte", ".idx", "ubyte.gz", ".idx.gz"].contains(where: path.hasSuffix) { return try IDX.read(path) }
        if path.hasSuffix(".npz") {
            let arrays = try NumPy.read(npz: path)
            if let name, let array = arrays[name] { return array }
            if arrays.count == 1, let only = arrays.values.first { return only }
            throw FileError(
                path,
                "expected an array \(name.map { "“\($0)”" } ?? "alone"), found \(arrays.keys.sorted().joined(separator: ", "))"
            )
        }
        throw FileError(path, "expected a name that ends in .npy, .npz, .csv, .idx, -ubyte, .idx.gz or -ubyte.gz")
    }
}
