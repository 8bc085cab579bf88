import Graph

/// Binary images of a ten-glyph font at random offsets with flipped pixels, drawn from a generator whose likelihood is known:
/// p(x) is the mean over glyphs and offsets of a product of flips, so every figure has its optimum beside it.
public struct Glyphs: Sendable {
    public static let height = 10
    public static let width = 8
    public static let flipProbability = 0.03

    public let seed: UInt64
    private let templates: [[UInt64]]

    public init(seed: UInt64 = 0) {
        self.seed = seed
        var templates: [[UInt64]] = []
        for glyph in Self.font {
            for top in 0...Self.height - 7 {
                for left in 0...Self.width - 5 {
                    var bits = [UInt64](repeating: 0, count: Self.words)
                    for y in 0..<7 {
                        for x in 0..<5 where glyph[y] >> UInt8(4 - x) & 1 == 1 {
                            let pixel = (top + y) * Self.width + left + x
                            bits[pixel >> 6] |= 1 << UInt64(pixel & 63)
                        }
                    }
                    templates.append(bits)
                }
            }
        }
        self.templates = templates
    }

    public static var pixelCount: Int { height * width }
    private static var words: Int { (pixelCount + 63) / 64 }

    /// Images `[count, height * width]`, uint8; image i of a split is the same for any count.
    public func draw(_ split: Dataset.Split, start: Int = 0, count: Int) -> HostArray {
        let random = HostRandom(seed: seed, stream: "glyphs.\(split.rawValue)")
        var pixels = [UInt8](repeating: 0, count: count * Self.pixelCount)
        let threshold = UInt32(Self.flipProbability * 0x1p32)
        for i in 0..<count {
            let template = templates[
                Int((UInt64(random.bits(example: start + i, variable: 1 << 20)) * UInt64(templates.count)) >> 32)]
            for p in 0..<Self.pixelCount {
                let isFlipped: UInt64 = random.bits(example: start + i, variable: p) < threshold ? 1 : 0
                pixels[i * Self.pixelCount + p] = UInt8((template[p >> 6] >> UInt64(p & 63) & 1) ^ isFlipped)
            }
        }
        return HostArray(pixels, shape: [count, Self.pixelCount])
    }

    /// log p(x) in nats of each image.
    public func logProbability(_ images: HostArray) -> [Double] {
        let (flip, keep) = (Math.log(Self.flipProbability), Math.log1p(-Self.flipProbability))
        let uniform = Math.log(Double(templates.count))
        return (0..<images.shape[0]).map { i in
            var bits = [UInt64](repeating: 0, count: Self.words)
            for p in 0..<Self.pixelCount where images.bytes[i * Self.pixelCount + p] != 0 {
                bits[p >> 6] |= 1 << UInt64(p & 63)
            }
            let terms = templates.map { template -> Double in
                let distance = zip(template, bits).reduce(0) { $0 + ($1.0 ^ $1.1).nonzeroBitCount }
                return Double(distance) * flip + Double(Self.pixelCount - distance) * keep
            }
            let top = terms.max()!
            return top + Math.log(terms.reduce(0) { $0 + Math.exp($1 - top) }) - uniform
        }
    }

    /// Rows of five pixels, the leftmost in the highest of five bits.
    private static let font: [[UInt8]] = [
        [0x0E, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0E], [0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E],
        [0x0E, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1F], [0x1F, 0x01, 0x02, 0x06, 0x01, 0x11, 0x0E],
        [0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02], [0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E],
        [0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E], [0x1F, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
        [0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E], [0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C],
    ]
}
