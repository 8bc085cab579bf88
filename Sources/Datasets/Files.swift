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

/// Files as the project uses them: read whole, and replaced whole or not at all.
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

    /// Replaces the file in one step: after a crash at any moment the old or the new content is there, never a part of one.
    public static func write(_ bytes: some Collection<UInt8>, to path: String) throws(FileError) {
        try replace(path) { (descriptor: Int32) throws(FileError) in try writeAll(Array(bytes), descriptor, path) }
    }

    /// Replaces the file by what `body` writes to a descriptor.
    static func replace(_ path: String, _ body: (Int32) throws(FileError) -> Void) throws(FileError) {
        let temporary = path + ".partial"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw FileError(path, "cannot be written: \(reason()); choose a folder that can be written")
        }
        do throws(FileError) {
            try body(descriptor)
            guard fsync(descriptor) == 0 else { throw FileError(path, "cannot be written: \(reason())") }
        } catch {
            close(descriptor)
            unlink(temporary)
            throw error
        }
        close(descriptor)
        guard rename(temporary, path) == 0 else {
            let error = FileError(path, "cannot be replaced: \(reason())")
            unlink(temporary)
            throw error
        }
        syncFolder(of: path)
    }

    static func writeAll(_ bytes: [UInt8], _ descriptor: Int32, _ path: String) throws(FileError) {
        let result: Result<Void, FileError> = bytes.withUnsafeBytes { buffer in
            do throws(FileError) { return .success(try writeAll(buffer, descriptor, path)) } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    static func writeAll(_ buffer: UnsafeRawBufferPointer, _ descriptor: Int32, _ path: String) throws(FileError) {
        var done = 0
        while done < buffer.count {
            let count = Glibc.write(descriptor, buffer.baseAddress! + done, min(buffer.count - done, 1 << 30))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw FileError(path, "cannot be written: \(reason())" + (errno == ENOSPC ? "; free some space" : ""))
            }
            done += count
        }
    }

    /// Adds a line to a file, in one write.
    public static func append(_ line: String, to path: String) throws(FileError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw FileError(path, "cannot be written: \(reason())") }
        defer { close(descriptor) }
        try writeAll(Array((line + "\n").utf8), descriptor, path)
    }

    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    public static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// The names in a folder.
    public static func list(_ path: String) throws(FileError) -> [String] {
        guard let folder = opendir(path) else { throw FileError(path, "cannot be listed: \(reason())") }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Makes a folder and those above it.
    public static func makeFolder(_ path: String) throws(FileError) {
        var built = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            built += (built.isEmpty || built.hasSuffix("/") ? "" : "/") + part
            if mkdir(built, 0o755) != 0, errno != EEXIST {
                throw FileError(path, "cannot be made: \(reason()); choose a folder that can be written")
            }
        }
        guard isFolder(path) else { throw FileError(path, "is not a folder") }
    }

    /// Fills a new folder, which is there under its name from the moment that `fill` is done: a crash before leaves no part of it.
    ///
    /// - Parameter fill: is given the path to write below.
    /// - Returns: false where something of that name is there already.
    public static func makeFolder(_ path: String, filledBy fill: (String) throws -> Void) throws -> Bool {
        let temporary = "\(path).\(getpid()).partial"
        try makeFolder(temporary)
        do {
            try fill(temporary)
            // Only an empty folder would be replaced.
            if !exists(path), rename(temporary, path) == 0 {
                syncFolder(of: path)
                return true
            }
            guard exists(path) else { throw FileError(path, "cannot be made: \(reason())") }
        } catch {
            remove(folder: temporary)
            throw error
        }
        remove(folder: temporary)
        return false
    }

    /// Removes a folder of files.
    private static func remove(folder: String) {
        for name in (try? list(folder)) ?? [] { unlink("\(folder)/\(name)") }
        rmdir(folder)
    }

    /// The entry of a file or folder has to reach the disk too.
    private static func syncFolder(of path: String) {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let handle = open(folder.isEmpty ? "/" : folder, O_RDONLY | O_CLOEXEC)
        if handle >= 0 {
            fsync(handle)
            close(handle)
        }
    }

    static func reason() -> String { String(cString: strerror(errno)) }
}
