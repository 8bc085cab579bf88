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
    /// The whole file. Throws if it is absent, unreadable, larger than `limit` bytes or than what memory is left.
    public static func read(_ path: String, limit: Int = 1 << 35) throws(FileError) -> [UInt8] {
        let stream = try ByteStream(file: path)
        let size = stream.count ?? 0
        guard size <= limit else {
            throw FileError(path, "is \(size) bytes, more than the \(limit) that are read of such a file")
        }
        let bytes = try stream.read(upTo: size)
        guard bytes.count == size else { throw FileError(path, "became shorter while it was read") }
        return bytes
    }

    /// A descriptor of a file that is to be read, and the file's size.
    static func openToRead(_ path: String) throws(FileError) -> (descriptor: Int32, size: Int) {
        // A pipe that nobody writes to would be waited for otherwise.
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw FileError(path, errno == ENOENT ? "is not there; check the name" : "cannot be opened: \(reason())")
        }
        var status = stat()
        let isKnown = fstat(descriptor, &status) == 0
        let problem =
            !isKnown
            ? "cannot be examined: \(reason())"
            : status.st_mode & S_IFMT != S_IFREG
                ? "expected a file, found a folder, a pipe or a device; name a file" : nil
        if let problem {
            close(descriptor)
            throw FileError(path, problem)
        }
        return (descriptor, Int(status.st_size))
    }

    /// Where paths that do not begin with a slash begin.
    public static func currentFolder() throws(FileError) -> String {
        guard let path = getcwd(nil, 0) else { throw FileError(".", "cannot be found: \(reason())") }
        defer { free(path) }
        return String(cString: path)
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
