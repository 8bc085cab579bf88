#if canImport(Glibc)
    import Glibc
#endif

/// A file that cannot be used: what was expected, what was found and what to do about it.
public struct FileError: Error, Sendable, CustomStringConvertible {
    public let path: String
    public let message: String

    public init(_ path: String, _ message: String) {
        self.path = path
        self.message = message
    }

    public var description: String { "\(path): \(message)" }
}

/// Files as the project uses them: read whole, and replaced whole or not at all (`FileWriting.swift`).
public enum Files {
    /// The whole file. Throws if it is absent, unreadable or larger than `limit` bytes.
    public static func read(_ path: String, limit: Int = 1 << 35) throws(FileError) -> [UInt8] {
        // A pipe that nobody writes to would be waited for otherwise.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw unopened(path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileError(path, "cannot be examined: \(reason())") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FileError(path, notAFile) }
        let size = Int(status.st_size)
        guard size <= limit else {
            throw FileError(path, "is \(size) bytes, more than the \(limit) that are read of such a file")
        }
        var bytes = [UInt8](repeating: 0, count: size)
        var filled = 0
        while filled < size {
            let count = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + filled, size - filled) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw FileError(path, count < 0 ? "cannot be read: \(reason())" : "became shorter while it was read")
            }
            filled += count
        }
        return bytes
    }

    /// The bytes that `read` fills chunks with until there are none.
    ///
    /// - Parameters:
    ///   - read: how many bytes it put into the chunk.
    ///   - promised: how many there ought to be, as far as the bytes so far tell; reading stops at one more.
    static func gather(
        _ path: String, limit: Int, _ read: (inout [UInt8]) throws(FileError) -> Int,
        promised: ([UInt8]) throws(FileError) -> Int?
    ) throws(FileError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        var most: Int?
        while true {
            let count = try read(&chunk)
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            if most == nil { most = try promised(bytes) }
            if let most, bytes.count > most {
                throw FileError(path, "its header promises \(most) bytes, but more follow; it is damaged")
            }
            guard bytes.count <= limit else {
                throw FileError(path, "is larger than the \(limit >> 30) GiB that are read")
            }
        }
    }

    /// Refuses what `read` would refuse before it reads, for readers that open a file themselves.
    static func requireFile(_ path: String) throws(FileError) {
        var status = stat()
        guard stat(path, &status) == 0 else { throw unopened(path) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FileError(path, notAFile) }
    }

    private static let notAFile = "expected a file, found a folder, a pipe or a device; name a file"

    private static func unopened(_ path: String) -> FileError {
        FileError(path, errno == ENOENT ? "is not there; check the name" : "cannot be opened: \(reason())")
    }

    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    public static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// The names in a folder, in order.
    public static func list(_ path: String) throws(FileError) -> [String] { try names(in: path).sorted() }

    static func names(in path: String) throws(FileError) -> [String] {
        guard let folder = opendir(path) else { throw FileError(path, "cannot be listed: \(reason())") }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    static func reason() -> String { String(cString: strerror(errno)) }
}
