import Graph

/// The idx format of the MNIST files, plain or compressed with gzip: big-endian extents, unsigned bytes.
public enum IDX {
    /// The array of a file, uint8.
    /// - Throws: `FileError` for a file that is absent, damaged or of another type of element.
    public static func read(_ path: String) throws(FileError) -> HostArray { try decode(ByteStream(gzip: path)) }

    static func decode(_ stream: ByteStream) throws(FileError) -> HostArray {
        let path = stream.name
        let front = try stream.read(upTo: 4)
        guard front.count == 4, front[0] == 0, front[1] == 0, front[2] == 8, (1...4).contains(front[3]) else {
            let others: [UInt8: String] = [
                9: "signed bytes", 11: "16-bit integers", 12: "32-bit integers", 13: "32-bit floats",
                14: "64-bit floats",
            ]
            let other = front.count == 4 && front[0] == 0 && front[1] == 0 ? others[front[2]] : nil
            throw FileError(
                path,
                "expected an idx file of unsigned bytes (it begins 0, 0, 8, rank), found "
                    + (other.map { "one of \($0); save it as npy" } ?? "\(front)"))
        }
        let extents = try stream.read(upTo: 4 * Int(front[3]))
        guard extents.count == 4 * Int(front[3]) else { throw FileError(path, "ends within its header") }
        let shape = stride(from: 0, to: extents.count, by: 4).map { start in
            extents[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
        }
        // Without the zeros, so that the extents of a part do not overflow either.
        guard shape.reduce(1.0, { $0 * Double(max(1, $1)) }) < 0x1p40 else {
            throw FileError(path, "its shape is too large")
        }
        return HostArray(type: .uint8, shape: shape, bytes: try stream.rest(shape.reduce(1, *), header: "\(shape)"))
    }
}

/// Any file of one array, by its ending.
public enum ArrayFile {
    /// - Parameter name: which array to take from an archive.
    public static func read(_ path: String, name: String? = nil) throws(FileError) -> HostArray {
        guard path.hasSuffix(".npz") else { return try readAlone(path) }
        let archive = try NumPyArchive(path)
        return try archive.read(member(archive, name))
    }

    static func member(_ archive: NumPyArchive, _ name: String?) throws(FileError) -> String {
        if let name, archive.names.contains(name) { return name }
        let numeric = try archive.numeric()
        if numeric.count == 1 { return numeric[0] }
        throw FileError(
            archive.path,
            "expected an array of numbers \(name.map { "“\($0)”" } ?? "alone"), found \(archive.names.isEmpty ? "none" : archive.names.joined(separator: ", "))"
        )
    }

    static let idxEndings = ["ubyte", ".idx", "ubyte.gz", ".idx.gz"]

    private static func readAlone(_ path: String) throws(FileError) -> HostArray {
        if path.hasSuffix(".npy") { return try NumPy.read(npy: path) }
        if path.hasSuffix(".csv") { return try CSV.read(path) { Notice.show(path, $0) } }
        if idxEndings.contains(where: path.hasSuffix) { return try IDX.read(path) }
        throw FileError(path, "expected a name that ends in .npy, .npz, .csv, .idx, -ubyte, .idx.gz or -ubyte.gz")
    }
}
