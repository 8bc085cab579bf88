import CPUKernels
import Compiler
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// `MADV_HUGEPAGE`, which the C library of Swift does not always name.
private let hugePages: Int32 = 14

/// Zeroed host memory, aligned for vectors.
final class CPUBuffer: DeviceBuffer, @unchecked Sendable {
    let byteCount: Int
    let pointer: UnsafeMutableRawPointer
    /// How often it was written, by whoever may do so between the runs of a program that reads it.
    private let writes = Atomic<Int>(0)
    var version: Int { writes.load(ordering: .acquiring) }

    /// Small buffers start at a cache line, large ones at a huge page.
    init(byteCount: Int, purpose: String = "a buffer") throws(CPUError) {
        self.byteCount = byteCount
        var memory: UnsafeMutableRawPointer?
        // A vector that reads a little past the end stays inside.
        let least = max(64, (byteCount + 127) / 64 * 64)
        let isLarge = least >= 1 << 19
        let size = isLarge ? ((least + (1 << 21) - 1) >> 21) << 21 : least
        guard byteCount >= 0, posix_memalign(&memory, isLarge ? 1 << 21 : 64, size) == 0, let memory else {
            throw CPUError.outOfMemory(byteCount: byteCount, purpose: purpose)
        }
        if isLarge { madvise(memory, size, hugePages) }
        memset(memory, 0, size)
        pointer = memory
    }

    deinit { free(pointer) }

    /// To be called before something is written: what was derived from the content is not to be used again.
    func willChange() { writes.add(1, ordering: .releasing) }

    func write(_ source: UnsafeRawBufferPointer) throws {
        guard source.count == byteCount else {
            throw CPUError.wrongSize(what: "the buffer", expected: byteCount, found: source.count)
        }
        willChange()
        if let base = source.baseAddress { memcpy(pointer, base, source.count) }
    }

    func read(into target: UnsafeMutableRawBufferPointer) throws {
        guard target.count == byteCount else {
            throw CPUError.wrongSize(what: "the buffer", expected: byteCount, found: target.count)
        }
        if let base = target.baseAddress { memcpy(base, pointer, target.count) }
    }
}
