#if canImport(Glibc)
    import Glibc
#endif

/// `MARTLET_DEBUG`: 1 the number of nodes and groups, 2 the schedule, 3 the kernels (printed by the backends), 4 times.
public let debugLevel = getenv("MARTLET_DEBUG").flatMap { Int(String(cString: $0)) } ?? 0

/// Writes a line to standard error.
public func debugLine(_ text: String) {
    var rest = Array((text + "\n").utf8)[...]
    while !rest.isEmpty {
        let written = rest.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
        guard written > 0 else { return }
        rest = rest.dropFirst(written)
    }
}
