/// Floats in (-1, 1) that are the same in every run.
func numbers(_ count: Int, seed: UInt64) -> [Double] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Double(Float(Double(Int64(bitPattern: state) >> 11) * 0x1p-52))
    }
}
