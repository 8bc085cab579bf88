import Likelihood

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What a process can have of the machine's memory.
enum HostMemory {
    /// The machine's memory or the limit set for the process, whichever is less.
    static var bytes: Double {
        let physical = Double(sysconf(Int32(_SC_PHYS_PAGES))) * Double(sysconf(Int32(_SC_PAGESIZE)))
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0 else { return physical }
        return min(physical, Double(limit.rlim_cur))
    }

    /// Refuses what cannot be had, before arrays are asked for that the process would die of.
    /// - Parameter advice: what to do about it.
    static func require(_ needed: Double, for purpose: String, _ advice: String) throws(UsageError) {
        let bytes = bytes
        guard needed <= bytes else {
            let gibibytes = { (bytes: Double) in "\((bytes / 0x1p30 * 10).rounded() / 10) GiB" }
            throw UsageError(
                "\(purpose) takes \(gibibytes(needed)) of memory, of which there is \(gibibytes(bytes)); \(advice)")
        }
    }
}
