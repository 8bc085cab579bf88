#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The C library's double-precision functions, under names that do not collide with operations on tensors.
public enum Math {
    public static func exp(_ x: Double) -> Double { libmExp(x) }
    public static func log(_ x: Double) -> Double { libmLog(x) }
    public static func log1p(_ x: Double) -> Double { libmLog1p(x) }
    public static func expm1(_ x: Double) -> Double { libmExpm1(x) }
    public static func tanh(_ x: Double) -> Double { libmTanh(x) }
    public static func sin(_ x: Double) -> Double { libmSin(x) }
    public static func cos(_ x: Double) -> Double { libmCos(x) }
    public static func erf(_ x: Double) -> Double { libmErf(x) }
    /// `phi(|x|) / Phi(-|x|)` of the standard normal: by the complementary error function, and far out by the continued fraction
    /// x + 1/(x + 2/(x + 3/(x + ...))) (Abramowitz and Stegun 1964, 26.2.14).
    public static func hazard(_ x: Double) -> Double {
        let x = x.magnitude
        if x < 5 { return exp(-x * x / 2) * 0.79788456080286536 / libmErfc(x * 0.70710678118654752) }
        var fraction = x
        for k in stride(from: 30.0, through: 1, by: -1) { fraction = x + k / fraction }
        return fraction
    }
    public static func pow(_ x: Double, _ y: Double) -> Double { libmPow(x, y) }
}

@inline(__always) private func libmExp(_ x: Double) -> Double { exp(x) }
@inline(__always) private func libmLog(_ x: Double) -> Double { log(x) }
@inline(__always) private func libmLog1p(_ x: Double) -> Double { log1p(x) }
@inline(__always) private func libmExpm1(_ x: Double) -> Double { expm1(x) }
@inline(__always) private func libmTanh(_ x: Double) -> Double { tanh(x) }
@inline(__always) private func libmSin(_ x: Double) -> Double { sin(x) }
@inline(__always) private func libmCos(_ x: Double) -> Double { cos(x) }
@inline(__always) private func libmErf(_ x: Double) -> Double { erf(x) }
@inline(__always) private func libmErfc(_ x: Double) -> Double { erfc(x) }
@inline(__always) private func libmPow(_ x: Double, _ y: Double) -> Double { pow(x, y) }
