#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Compiled programs on disk, so that only the first run of a model on a device pays for the compiler.
///
/// An entry is found by a hash of its key (source, options, device, driver) and holds the whole key and a checksum, so
/// that neither a collision nor a torn file can pass for the right program. The cache is never needed: what cannot be
/// read is built again, what cannot be written is not kept.
///
/// A binary runs with the rights of who loads it, so folder and entries must be this user's, and nobody else may write to the folder.
struct ProgramCache: Sendable {
    /// The cache for a device: none for PoCL, unless `MARTLET_CACHE` asks for it, since PoCL keeps compiled kernels on disk
    /// by itself and takes as long again to hand over a binary as to build it.
    init(for device: DeviceDescription) {
        let named = environment("MARTLET_CACHE").map { !$0.isEmpty } ?? false
        if device.platform == "Portable Computing Language", !named { self.init(folder: nil) } else { self.init() }
    }

    /// `$MARTLET_CACHE`, else `$XDG_CACHE_HOME/martlet`, else `~/.cache/martlet`; `nil` where none of them is known.
    let folder: String?

    init(folder: String?) { self.folder = folder }

    init() {
        let named = { (name: String) in environment(name).flatMap { $0.isEmpty ? nil : $0 } }
        folder =
            named("MARTLET_CACHE") ?? named("XDG_CACHE_HOME").map { $0 + "/martlet" }
            ?? named("HOME").map { $0 + "/.cache/martlet" }
    }

    func path(for key: String) -> String? {
        folder.map { "\($0)/\(hex(Self.hash(key.utf8, seed: 0)))\(hex(Self.hash(key.utf8, seed: 1))).clbin" }
    }

    /// The binary stored for `key`, if there is a whole one.
    func read(_ key: String) -> [UInt8]? {
        guard let folder, isOurs(folder, S_IFDIR), let path = path(for: key), let bytes = readFile(path) else {
            return nil
        }
        let keyBytes = Array(key.utf8)
        let header = Self.header(keyBytes.count)
        guard bytes.count > header.count + keyBytes.count + 8, bytes.starts(with: header),
            bytes[header.count...].starts(with: keyBytes)
        else { return nil }
        let binary = bytes[(header.count + keyBytes.count)..<(bytes.count - 8)]
        let stored = bytes.suffix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return stored == Self.hash(binary, seed: 2) ? Array(binary) : nil
    }

    /// Stores a binary: written beside its place and moved there, so that a reader sees all of it or nothing.
    func write(_ key: String, _ binary: [UInt8]) {
        guard let folder, let path = path(for: key), makeFolder(folder), isOurs(folder, S_IFDIR) else { return }
        let keyBytes = Array(key.utf8)
        let checksum = Self.hash(binary, seed: 2)
        let bytes =
            Self.header(keyBytes.count) + keyBytes + binary
            + (0..<8).map { UInt8(truncatingIfNeeded: checksum >> ($0 * 8)) }
        let temporary = "\(path).\(hex(UInt64.random(in: 0 ... .max)))"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0, let file = fdopen(descriptor, "wb") else { return }
        let written = fwrite(bytes, 1, bytes.count, file)
        let closed = fclose(file)
        if written != bytes.count || closed != 0 || rename(temporary, path) != 0 { unlink(temporary) }
    }

    func remove(_ key: String) { if let path = path(for: key) { unlink(path) } }

    private static func header(_ keyBytes: Int) -> [UInt8] { Array("martlet program 1 \(keyBytes)\n".utf8) }

    /// FNV-1a.
    private static func hash(_ bytes: some Sequence<UInt8>, seed: UInt64) -> UInt64 {
        bytes.reduce(0xcbf2_9ce4_8422_2325 ^ (seed &* 0x9E37_79B9_7F4A_7C15)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }

    private func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    private func makeFolder(_ path: String) -> Bool {
        var prefix = ""
        for part in path.split(separator: "/", omittingEmptySubsequences: true) {
            prefix += (prefix.isEmpty && !path.hasPrefix("/") ? "" : "/") + part
            mkdir(prefix, 0o700)
        }
        return access(path, W_OK) == 0
    }

    /// Whether something is of a kind, belongs to this user, and can be changed by nobody else.
    private func isOurs(_ status: stat, _ kind: mode_t) -> Bool {
        status.st_mode & S_IFMT == kind && status.st_uid == geteuid() && status.st_mode & (S_IWGRP | S_IWOTH) == 0
    }

    private func isOurs(_ path: String, _ kind: mode_t) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && isOurs(status, kind)
    }

    private func readFile(_ path: String) -> [UInt8]? {
        // A pipe under the name of an entry would be waited for otherwise.
        let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0, let file = fdopen(descriptor, "rb") else { return nil }
        defer { fclose(file) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, isOurs(status, S_IFREG) else { return nil }
        let size = Int(status.st_size)
        guard size > 0, size < 1 << 31 else { return nil }
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { $1 = fread($0.baseAddress, 1, size, file) }
        return bytes.count == size ? bytes : nil
    }
}
