import Datasets

#if canImport(Glibc)
    import Glibc
#endif

/// The right to write into a run's folder, which one process has at a time, until this is freed or the process ends, however it ends.
///
/// It is an advisory lock (`flock`) on the file `lock` of the folder; the file holds a line about its holder, and means nothing while
/// nobody holds it. Reading (`evaluate`, `sample`, `inspect`) needs no lock, as files are replaced whole.
public final class RunLock: Sendable {
    private let descriptor: Int32

    /// - Throws: `FileError` that names the process that has the lock.
    public init(_ folder: RunFolder) throws(FileError) {
        descriptor = open(folder.lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw FileError(folder.lock, "cannot be opened: \(String(cString: strerror(errno)))")
        }
        // Some network file systems know no locks; one has to look after oneself there.
        if flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK {
            throw FileError(
                folder.path, "is in use by \(holder() ?? "another process"); wait until that has ended, or stop it")
        }
        let line = Array(Self.description.utf8)
        _ = pwrite(descriptor, line, line.count, 0)
        _ = ftruncate(descriptor, off_t(line.count))
    }

    deinit { close(descriptor) }

    /// What the holder wrote about itself.
    private func holder() -> String? {
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }

    /// This process: its number, what it was called with, since when it has the lock.
    private static var description: String {
        var arguments = CommandLine.arguments
        if let program = arguments.first { arguments[0] = String(program.split(separator: "/").last ?? "") }
        let command = arguments.joined(separator: " ")
        var (now, parts) = (time(nil), tm())
        gmtime_r(&now, &parts)
        let digits = { (value: Int32) in value < 10 ? "0\(value)" : "\(value)" }
        let day = "\(parts.tm_year + 1900)-\(digits(parts.tm_mon + 1))-\(digits(parts.tm_mday))"
        let hour = "\(digits(parts.tm_hour)):\(digits(parts.tm_min)):\(digits(parts.tm_sec))"
        return
            "process \(getpid()), “\(command.count <= 200 ? command : command.prefix(200) + "…")”, since \(day) \(hour) UTC"
    }
}
