import Compiler

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// How kernels are written. A GPU wants many small work-items that share tiles in local memory; an OpenCL processor wants
/// one work-item per tile, wide vectors and packed panels. Either runs on any device.
public enum KernelFamily: String, Sendable, CaseIterable {
    case gpu, cpu

    /// `MARTLET_KERNELS=gpu|cpu`, if set.
    static func forced() throws -> KernelFamily? {
        guard let text = environment("MARTLET_KERNELS"), !text.isEmpty else { return nil }
        guard let family = KernelFamily(rawValue: text) else {
            throw OpenCLError.unsupported("MARTLET_KERNELS=\(text): expected gpu or cpu")
        }
        return family
    }
}

/// A variable of the process's environment.
func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
