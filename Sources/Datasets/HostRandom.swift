import Graph
import Kernels

/// The project's generator on the host: a function of (seed, stream, step, example, variable), the same on every machine.
public struct HostRandom: Sendable {
    public let seed: UInt64
    public let stream: UInt32

    public init(seed: UInt64, stream: String) {
        self.seed = seed
        self.stream = stableHash(stream)
    }

    public func bits(step: Int = 0, example: Int, variable: Int = 0) -> UInt32 {
        martlet_philox_word0(
            UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32),
            UInt32(truncatingIfNeeded: variable),
            UInt32(truncatingIfNeeded: example), UInt32(truncatingIfNeeded: step), stream)
    }

    /// In [0, 1).
    public func uniform(step: Int = 0, example: Int, variable: Int = 0) -> Double {
        Double(bits(step: step, example: example, variable: variable)) * 0x1p-32
    }

    public func normal(step: Int = 0, example: Int, variable: Int = 0) -> Double {
        Double(martlet_normal_from_bits(bits(step: step, example: example, variable: variable)))
    }

    /// 0 ..< count in a random order (Fisher and Yates).
    public func permutation(_ count: Int, step: Int) -> [Int] {
        var items = Array(0..<count)
        for i in stride(from: count - 1, to: 0, by: -1) {
            items.swapAt(i, Int((UInt64(bits(step: step, example: i)) * UInt64(i + 1)) >> 32))
        }
        return items
    }
}
