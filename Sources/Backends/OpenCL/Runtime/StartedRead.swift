/// Bytes that a device is about to copy to the host.
final class StartedRead {
    private let target: UnsafeMutableRawBufferPointer
    private let byteCount: Int
    private let wait: () throws -> Void
    private var isOver = false

    /// - Parameters:
    ///   - target: where the device copies to; this object frees it.
    ///   - wait: waits for the copy, and is called once.
    init(target: UnsafeMutableRawBufferPointer, byteCount: Int, wait: @escaping () throws -> Void) {
        (self.target, self.byteCount, self.wait) = (target, byteCount, wait)
    }

    /// The device may still write to the memory.
    deinit {
        if !isOver { try? wait() }
        target.deallocate()
    }

    func bytes() throws -> [UInt8] {
        if !isOver {
            isOver = true
            try wait()
        }
        return Array(target.prefix(byteCount))
    }
}
