#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What a process can have of the machine's memory.
public enum HostMemory {
    /// The machine's memory or a limit set for the process or its group, whichever is less.
    public static var bytes: Double { bounds().map(\.limit).min() ?? .infinity }

    /// What is left of it now: memory that is free or could be given up, and no more than is left of any limit.
    public static var available: Double { max(0, bounds().map(\.rest).min() ?? .infinity) }

    /// A size as people read it.
    public static func text(_ bytes: Double) -> String {
        bytes < 0x1p29 ? "\(Int((bytes / 0x1p20).rounded(.up))) MiB" : "\((bytes / 0x1p30 * 10).rounded() / 10) GiB"
    }

    /// Refuses what cannot be had, before arrays are asked for that the process would die of.
    /// - Parameter advice: what to do about it.
    public static func require(_ needed: Double, for purpose: String, _ advice: String) throws(UsageError) {
        let left = available
        guard needed <= left else {
            throw UsageError(
                "\(purpose) takes \(text(needed)) of memory, of which \(text(left)) of \(text(bytes)) are left; \(advice)"
            )
        }
    }

    struct Bound {
        let limit: Double
        let rest: Double
    }

    /// Everything that bounds the process's memory.
    /// - Parameter root: what stands before `/proc` and `/sys`; tests have their own.
    static func bounds(_ root: String = "") -> [Bound] {
        var bounds: [Bound] = []
        let machine = fields(root + "/proc/meminfo")
        if let total = machine["MemTotal:"] {
            bounds.append(Bound(limit: total * 1024, rest: (machine["MemAvailable:"] ?? total) * 1024))
        }
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, limit.rlim_cur < 1 << 62 {
            let pages = content(root + "/proc/self/statm").split(separator: " ").first.flatMap { Double($0) } ?? 0
            let taken = pages * Double(sysconf(Int32(_SC_PAGESIZE)))
            bounds.append(Bound(limit: Double(limit.rlim_cur), rest: Double(limit.rlim_cur) - taken))
        }
        for line in content(root + "/proc/self/cgroup").split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            if parts[1].isEmpty {
                bounds += groups(
                    root + "/sys/fs/cgroup", parts[2], limit: "memory.max", usage: "memory.current",
                    cache: "inactive_file")
            } else if parts[1].split(separator: ",").contains("memory") {
                bounds += groups(
                    root + "/sys/fs/cgroup/memory", parts[2], limit: "memory.limit_in_bytes",
                    usage: "memory.usage_in_bytes", cache: "total_inactive_file")
            }
        }
        return bounds
    }

    /// The limits of a control group and of those above it. Inside a container the path may be that of the host, of which only
    /// the root is there.
    private static func groups(
        _ mount: String, _ path: Substring, limit: String, usage: String, cache: String
    ) -> [Bound] {
        var bounds: [Bound] = []
        var parts = path.split(separator: "/")
        while true {
            let folder = ([mount] + parts.map(String.init)).joined(separator: "/")
            if let most = number("\(folder)/\(limit)"), most < 0x1p62, let taken = number("\(folder)/\(usage)") {
                // Files that were read and not used since are counted as taken, but are given up first.
                let spare = fields("\(folder)/memory.stat")[cache] ?? 0
                bounds.append(Bound(limit: most, rest: most - taken + min(spare, taken)))
            }
            if parts.popLast() == nil { return bounds }
        }
    }

    private static func number(_ path: String) -> Double? {
        Double(content(path).split(separator: "\n").first ?? "")
    }

    /// The number behind each name of a file that has one on every line.
    private static func fields(_ path: String) -> [String: Double] {
        var fields: [String: Double] = [:]
        for line in content(path).split(separator: "\n") {
            let parts = line.split(separator: " ")
            if parts.count >= 2 { fields[String(parts[0])] = Double(parts[1]) }
        }
        return fields
    }

    /// The beginning of a small text file; empty where there is none.
    private static func content(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        return String(unsafeUninitializedCapacity: 1 << 16) { max(0, read(descriptor, $0.baseAddress!, $0.count)) }
    }
}
