#if canImport(Glibc)
    import Glibc
#endif

/// What writes. A file or a folder is filled under a name of its own beside its place, brought to the disk, and renamed: after a crash
/// or a power cut at any moment the old content is there or the new, never a part of one. The name is random and is made anew, so that
/// writers of one file do not meet, and no link that lies there is followed.
extension Files {
    /// Replaces the file in one step. It keeps its permissions; a new one has those that the umask leaves.
    public static func write(_ bytes: some Collection<UInt8>, to path: String) throws(FileError) {
        try replace(path) { (descriptor: Int32) throws(FileError) in try writeAll(Array(bytes), descriptor, path) }
    }

    /// Replaces the file by what `body` writes to a descriptor.
    ///
    /// - Parameter former: what the file that is replaced is called from then on, if it is to be kept. A crash between the two renames
    ///   leaves it there, and none at `path`.
    static func replace(
        _ path: String, keepingAs former: String? = nil, _ body: (Int32) throws(FileError) -> Void
    ) throws(FileError) {
        removeAbandoned(of: path)
        var replaced = stat()
        let isFile = lstat(path, &replaced) == 0 && replaced.st_mode & S_IFMT == S_IFREG
        let mode = isFile ? replaced.st_mode & 0o777 : nil
        let (temporary, descriptor) = try makeTemporary(for: path) {
            open($0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode == nil ? 0o666 : 0o600)
        }
        defer { close(descriptor) }
        do throws(FileError) {
            guard mode.map({ fchmod(descriptor, $0) == 0 }) ?? true else { throw unwritten(path) }
            try body(descriptor)
            guard fsync(descriptor) == 0 else { throw unwritten(path) }
            if let former, exists(path), rename(path, former) != 0 {
                throw FileError(path, "cannot be kept as \(former): \(reason())")
            }
            guard rename(temporary, path) == 0 else { throw FileError(path, "cannot be replaced: \(reason())") }
        } catch {
            unlink(temporary)
            throw error
        }
        try syncFolder(of: path)
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
            guard count > 0 else { throw unwritten(path) }
            done += count
        }
    }

    /// Adds a line to a file, in one write; it is on the disk when this returns.
    public static func append(_ line: String, to path: String) throws(FileError) {
        let isNew = !exists(path)
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw unwritten(path) }
        defer { close(descriptor) }
        try writeAll(Array((line + "\n").utf8), descriptor, path)
        guard fsync(descriptor) == 0 else { throw unwritten(path) }
        if isNew { try syncFolder(of: path) }
    }

    // MARK: folders

    /// Makes a folder and those above it.
    public static func makeFolder(_ path: String) throws(FileError) {
        var built = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            built += (built.isEmpty || built.hasSuffix("/") ? "" : "/") + part
            if mkdir(built, 0o777) == 0 {
                try syncFolder(of: built)
            } else if errno != EEXIST, !isFolder(built) {
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
        let above = parts(of: path).folder
        try makeFolder(above)
        removeAbandoned(of: path)
        let (temporary, descriptor) = try makeTemporary(for: path) {
            mkdir($0, 0o777) == 0 ? open($0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1
        }
        defer { close(descriptor) }
        do {
            try fill(temporary)
            if !exists(path) {
                // Only an empty folder would be replaced.
                if rename(temporary, path) == 0 {
                    try syncFolder(of: path)
                    return true
                }
                guard errno == EEXIST || errno == ENOTEMPTY else {
                    throw FileError(path, "cannot be made: \(reason())")
                }
            }
        } catch {
            remove(temporary)
            throw error
        }
        remove(temporary)
        return false
    }

    /// Removes a file, or a folder with all that is in it; links are removed, not followed.
    public static func remove(_ path: String) {
        guard unlink(path) != 0, errno == EISDIR else { return }
        for name in (try? names(in: path)) ?? [] { remove("\(path)/\(name)") }
        rmdir(path)
    }

    /// Brings to the disk that a file or folder was made, renamed or removed. File systems that cannot do this are passed over.
    private static func syncFolder(of path: String) throws(FileError) {
        let handle = open(parts(of: path).folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard handle >= 0 else { return }
        defer { close(handle) }
        if fsync(handle) != 0, [EIO, ENOSPC, EDQUOT].contains(errno) { throw unwritten(path) }
    }

    // MARK: temporaries

    /// Makes a file or folder of a random name beside `path`, and locks it, which says that its writer lives.
    /// - Parameter make: opens it; -1 where it cannot, or where something is there.
    private static func makeTemporary(
        for path: String, _ make: (String) -> Int32
    ) throws(FileError) -> (path: String, descriptor: Int32) {
        let (folder, stem) = parts(of: path)
        while true {
            let digits = String(UInt64.random(in: 1 << 60 ... .max), radix: 16)
            let temporary = "\(folder)/\(stem).\(digits)\(temporarySuffix)"
            let descriptor = make(temporary)
            guard descriptor >= 0 else {
                if errno == EEXIST { continue }
                throw FileError(path, "cannot be written: \(reason()); choose a folder that can be written")
            }
            // Before it was locked, another writer may have taken it for abandoned.
            let isTaken = flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK
            if !isTaken, exists(temporary) { return (temporary, descriptor) }
            close(descriptor)
        }
    }

    /// Removes what writers of this file left that were killed: whoever writes holds a lock, which goes with its process.
    private static func removeAbandoned(of path: String) {
        let (folder, stem) = parts(of: path)
        for name in (try? names(in: folder)) ?? [] where name.hasPrefix(stem + ".") && name.hasSuffix(temporarySuffix) {
            let digits = name.dropFirst(stem.count + 1).dropLast(temporarySuffix.count)
            guard digits.count == 16, digits.allSatisfy({ $0.isHexDigit && !$0.isUppercase }) else { continue }
            let temporary = "\(folder)/\(name)"
            let descriptor = open(temporary, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { remove(temporary) }
            close(descriptor)
        }
    }

    private static let temporarySuffix = ".partial"

    /// The folder that a path lies in, and what names of temporaries begin with: the path's last part, cut where a name would become
    /// too long.
    private static func parts(of path: String) -> (folder: String, stem: String) {
        let names = path.split(separator: "/")
        let folder = names.dropLast().joined(separator: "/")
        let last = names.last.map(String.init) ?? ""
        let stem = last.utf8.count <= 200 ? last : String(String.UnicodeScalarView(last.unicodeScalars.prefix(50)))
        return (path.hasPrefix("/") ? "/" + folder : folder.isEmpty ? "." : folder, stem)
    }

    private static func unwritten(_ path: String) -> FileError {
        FileError(path, "cannot be written: \(reason())" + (errno == ENOSPC ? "; free some space" : ""))
    }
}
