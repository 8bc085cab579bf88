import Testing

@testable import Datasets
@testable import fuzz_readers

#if canImport(Glibc)
    import Glibc
#endif

/// Numbers out of text, against C's own reader, to the bit.
@Suite struct DecimalTests {
    private func decimal(_ text: String) -> Float? {
        Array(text.utf8).withUnsafeBytes { Float(decimal: $0) }
    }

    private func expectExact(_ text: String) {
        let (found, expected) = (decimal(text), strtof(text, nil))
        #expect(found?.bitPattern == expected.bitPattern, "\(text): \(String(describing: found)) for \(expected)")
    }

    @Test func randomTexts() {
        var random = SplitMix(state: 5)
        for _ in 0..<300_000 {
            var text = ["", "-", "+"].randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...22, using: &random) { text += "\(Int.random(in: 0...9, using: &random))" }
            if Bool.random(using: &random) { text += "." }
            if text.last == "." || Bool.random(using: &random) {
                for _ in 0..<Int.random(in: 0...9, using: &random) {
                    text += "\(Int.random(in: 0...9, using: &random))"
                }
            }
            if Bool.random(using: &random) {
                text +=
                    ["e", "E", "e+", "e-"].randomElement(using: &random)! + "\(Int.random(in: 0...52, using: &random))"
            }
            // A point needs no digits behind it, and none before it where there are some behind.
            expectExact(text)
        }
    }

    /// Floats, the middles between them, which are the hardest, and the neighbours of these in their last written digit.
    @Test func middlesBetweenFloats() {
        var random = SplitMix(state: 6)
        for i in 0..<100_000 {
            let below = Float(bitPattern: UInt32.random(in: 0..<0x7F7F_FFFF, using: &random))
            let middle = (Double(below) + Double(below.nextUp)) / 2
            let value = [middle, middle.nextUp, middle.nextDown, Double(below)][i % 4]
            for digits in [16, 17, 20, 60] {
                var text = [CChar](repeating: 0, count: 128)
                _ = withVaList([Int32(digits), value]) { vsnprintf(&text, 128, "%.*e", $0) }
                expectExact(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
            }
        }
    }

    @Test func otherTexts() {
        for text in [
            "0", "-0", "0.000", "1e400", "1e-400", "-1e400", "0e999999999999999999999", "1e99999999999999999999",
            "340282346638528859811704183484516925440", "340282356779733661637539395458142568448", "1.17549435e-38",
            "1.4e-45", "7.0e-46", "00000000000000000000000000000001", "16777217", "16777216.999999999999999999999",
            "0.\(String(repeating: "0", count: 400))1e400", "1\(String(repeating: "0", count: 60))e-60",
        ] { expectExact(text) }
        #expect(decimal("NaN")?.isNaN == true)
        #expect(decimal("-inf") == -.infinity && decimal("Infinity") == .infinity)
        for text in [
            "", "-", ".", "e5", "1e", "1e+", "1 ", " 1", "0x10", "1_000", "1,0", "nano", "1.2.3", "--1", "1\0",
        ] {
            #expect(decimal(text) == nil, "\(text)")
        }
    }
}
