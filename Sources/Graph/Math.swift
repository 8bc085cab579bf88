#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The C library's double-precision functions, under names that do not collide with operations on tensors.
public enum Math {
    public static func exp(_ x: Double) -> Double { c_exp(x) }
    public static func log(_ x: Double) -> Double { c_log(x) }
    public static func log1p(_ x: Double) -> Double { c_log1p(x) }
    public static func expm1(_ x: Double) -> Double { c_expm1(x) }
    public static func tanh(_ x: Double) -> Double { c_tanh(x) }
    public static func sin(_ x: Double) -> Double { c_sin(x) }
    public static func cos(_ x: Double) -> Double { c_cos(x) }
    public static func erf(_ x: Double) -> Double { c_erf(x) }
    public static func pow(_ x: Double, _ y: Double) -> Double { c_pow(x, y) }
}

@inline(__always) private func c_exp(_ x: Double) -> Double { exp(x) }
@inline(__always) private func c_log(_ x: Double) -> Double { log(x) }
@inline(__always) private func c_log1p(_ x: Double) -> Double { log1p(x) }
@inline(__always) private func c_expm1(_ x: Double) -> Double { expm1(x) }
@inline(__always) private func c_tanh(_ x: Double) -> Double { tanh(x) }
@inline(__always) private func c_sin(_ x: Double) -> Double { sin(x) }
@inline(__always) private func c_cos(_ x: Double) -> Double { cos(x) }
@inline(__always) private func c_erf(_ x: Double) -> Double { erf(x) }
@inline(__always) private func c_pow(_ x: Double, _ y: Double) -> Double { pow(x, y) }
