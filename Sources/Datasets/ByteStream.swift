import CLZMA
import CZip
import Likelihood

#if canImport(Glibc)
    import Glibc
#endif

/// The bytes of a file, or those that a decompressor makes of it, one after the other. A reader asks for its header, and then for as
/// many bytes as that promises: they go where they stay, so that there is no second copy, and memory is asked for them first.
final class ByteStream {
    /// What messages call it.
    let name: String
    /// How many bytes there are in all, where that is known before they are read.
    let count: Int?
    private(set) var position = 0
    /// The CRC-64 of what was read, if it is asked for before anything is.
    private(set) var checksum: UInt64 = 0
    var isSummed = false
    /// Fills a buffer, and says how far; 0 at the end.
    private let next: (UnsafeMutableRawBufferPointer) throws(FileError) -> Int
    private let close: () -> Void

    init(
        _ name: String, count: Int?, next: @escaping (UnsafeMutableRawBufferPointer) throws(FileError) -> Int,
        close: @escaping () -> Void = {}
    ) {
        (self.name, self.count, self.next, self.close) = (name, count, next, close)
    }

    deinit { close() }

    /// - Returns: how many bytes were read; fewer than the buffer takes where there are no more.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
        var filled = 0
        while filled < buffer.count {
            // Some libraries count in 32 bits.
            let part = buffer[filled..<min(buffer.count, filled + 1 << 30)]
            let count = try next(UnsafeMutableRawBufferPointer(rebasing: part))
            if count == 0 { break }
            filled += count
        }
        position += filled
        if isSummed { checksum = Checksum.extended(checksum, by: UnsafeRawBufferPointer(buffer)[..<filled]) }
        return filled
    }

    /// The next bytes; fewer than `count` where there are no more.
    /// - Throws: `FileError` that names both sizes where there is not enough memory.
    func read(upTo count: Int) throws(FileError) -> [UInt8] {
        try Memory.require(count, for: name)
        var failure: FileError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(FileError) {
                filled = try read(
                    into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count]))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// All that follows, which has to be as much as the header says.
    /// - Parameter header: what it says, in words.
    func rest(_ count: Int, header: String) throws(FileError) -> [UInt8] {
        try require(count, header: header)
        let bytes = try read(upTo: count)
        guard bytes.count == count else { throw mismatch(count, header, bytes.count) }
        try requireEnd()
        return bytes
    }

    /// The same in parts of some bytes, for what is not kept as it lies in the file.
    /// - Parameter part: bytes of a part, but of the last, which may have fewer.
    func rest(
        _ count: Int, header: String, part: Int, _ body: (UnsafeRawBufferPointer) throws(FileError) -> Void
    ) throws(FileError) {
        try require(count, header: header)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(part, max(1, count)), alignment: 16)
        defer { buffer.deallocate() }
        var done = 0
        while done < count {
            let wanted = min(buffer.count, count - done)
            let found = try read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
            guard found == wanted else { throw mismatch(count, header, done + found) }
            try body(UnsafeRawBufferPointer(rebasing: buffer[..<wanted]))
            done += wanted
        }
        try requireEnd()
    }

    /// Refuses what has not as much left as the header says, where that is known.
    func require(_ count: Int, header: String) throws(FileError) {
        if let total = self.count, total != position + count { throw mismatch(count, header, total - position) }
    }

    private func mismatch(_ count: Int, _ header: String, _ found: Int) -> FileError {
        FileError(name, "its header says \(header), \(count) bytes in all, but \(found) follow")
    }

    private func requireEnd() throws(FileError) {
        guard try read(upTo: 1).isEmpty else {
            throw FileError(name, "its header promises \(position - 1) bytes, but more follow; it is damaged")
        }
    }

    /// Passes over some bytes.
    /// - Returns: how many there were, at most `count`.
    func skip(_ count: Int) throws(FileError) -> Int {
        var skipped = 0
        while skipped < count {
            let part = try read(upTo: min(count - skipped, 1 << 16)).count
            if part == 0 { break }
            skipped += part
        }
        return skipped
    }
}

/// Whether memory is left for what a file holds.
enum Memory {
    /// - Throws: `FileError` that names both sizes.
    static func require(_ bytes: Int, for path: String) throws(FileError) {
        // Less than this is not worth looking at the machine's tables for.
        guard bytes >= 1 << 20 else { return }
        let available = HostMemory.available
        guard Double(bytes) <= available else {
            throw FileError(
                path,
                "takes \(HostMemory.text(Double(bytes))) of memory, of which \(HostMemory.text(available)) are left; give fewer examples, or use a machine with more"
            )
        }
    }
}

// MARK: where bytes come from

extension ByteStream {
    convenience init(file path: String) throws(FileError) {
        let (descriptor, size) = try Files.openToRead(path)
        self.init(path, count: size) { buffer throws(FileError) in
            while true {
                let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw FileError(path, "cannot be read: \(Files.reason())") }
                return count
            }
        } close: {
            Glibc.close(descriptor)
        }
    }

    convenience init(_ bytes: [UInt8], name: String) {
        var done = 0
        self.init(name, count: bytes.count) { buffer in
            let count = min(buffer.count, bytes.count - done)
            bytes.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[done..<done + count])) }
            done += count
            return count
        }
    }

    /// A file that may be compressed with gzip.
    convenience init(gzip path: String) throws(FileError) {
        let (descriptor, size) = try Files.openToRead(path)
        guard let file = gzdopen(descriptor, "rb") else {
            Glibc.close(descriptor)
            throw FileError(path, "cannot be opened")
        }
        // Looks at the beginning of the file.
        let isPlain = gzdirect(file) != 0
        self.init(path, count: isPlain ? size : nil) { buffer throws(FileError) in
            let count = gzread(file, buffer.baseAddress, UInt32(buffer.count))
            var code: Int32 = 0
            _ = gzerror(file, &code)
            guard count >= 0 else { throw FileError(path, "its compressed data is damaged") }
            guard count > 0 || code == Z_OK || code == Z_STREAM_END else {
                throw FileError(path, "ends within its compressed data")
            }
            return Int(count)
        } close: {
            gzclose(file)
        }
    }

    /// What a stream of xz holds. A file may be of several, as parallel compressors and `cat` leave them.
    convenience init(xz source: ByteStream) throws(FileError) {
        let name = source.name
        let state = UnsafeMutablePointer<lzma_stream>.allocate(capacity: 1)
        state.initialize(to: lzma_stream())
        let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
        let close = {
            lzma_end(state)
            state.deallocate()
            input.deallocate()
        }
        // Swift does not see the macro LZMA_CONCATENATED.
        guard lzma_stream_decoder(state, 1 << 30, 0x08) == LZMA_OK else {
            close()
            throw FileError(name, "cannot be decompressed: no memory")
        }
        var hasEnded = false
        self.init(
            name, count: nil,
            next: { buffer throws(FileError) in
                state.pointee.next_out = buffer.assumingMemoryBound(to: UInt8.self).baseAddress
                state.pointee.avail_out = buffer.count
                while state.pointee.avail_out == buffer.count, !hasEnded {
                    var action = LZMA_RUN
                    if state.pointee.avail_in == 0 {
                        let count = try source.read(into: input)
                        state.pointee.next_in = UnsafePointer(input.assumingMemoryBound(to: UInt8.self).baseAddress)
                        state.pointee.avail_in = count
                        if count == 0 { action = LZMA_FINISH }
                    }
                    let code = lzma_code(state, action)
                    hasEnded = code == LZMA_STREAM_END
                    guard hasEnded || code == LZMA_OK else {
                        throw FileError(
                            name,
                            code == LZMA_MEMLIMIT_ERROR || code == LZMA_MEM_ERROR
                                ? "takes more memory to decompress than there is, or than 1 GiB; compress it with a smaller dictionary"
                                : "its compressed data is damaged or cut short (xz code \(code.rawValue))")
                    }
                }
                return buffer.count - state.pointee.avail_out
            }, close: close)
    }
}
