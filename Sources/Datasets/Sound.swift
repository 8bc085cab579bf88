import Graph
import Likelihood

/// Sounds: 16-bit mono PCM in wav files, and their mu-law codes.
public enum Sound {
    /// Samples of a wav file of 16-bit PCM; several channels are averaged.
    public static func read(wav bytes: [UInt8], name: String) throws(FileError) -> (samples: [Int16], rate: Int) {
        func number(_ offset: Int, _ length: Int) -> Int {
            (0..<length).reversed().reduce(0) { $0 << 8 | Int(bytes[offset + $1]) }
        }
        func tag(_ offset: Int) -> String { String(decoding: bytes[offset..<offset + 4], as: UTF8.self) }
        guard bytes.count >= 12, tag(0) == "RIFF", tag(8) == "WAVE" else {
            throw FileError(name, "expected a wav file (RIFF, WAVE)")
        }
        var format: (channels: Int, rate: Int)?
        var position = 12
        while position + 8 <= bytes.count {
            let (chunk, size, start) = (tag(position), number(position + 4, 4), position + 8)
            guard start + size <= bytes.count else { throw FileError(name, "ends within its chunk “\(chunk)”") }
            if chunk == "fmt " {
                guard size >= 16 else { throw FileError(name, "its format chunk has \(size) bytes; expected 16") }
                let (code, bits) = (number(start, 2), number(start + 14, 2))
                guard code == 1 || code == 0xFFFE, bits == 16 else {
                    throw FileError(name, "expected 16-bit PCM, found format \(code) of \(bits) bits; convert it first")
                }
                format = (number(start + 2, 2), number(start + 4, 4))
            } else if chunk == "data" {
                guard let format, format.channels > 0 else { throw FileError(name, "has no format before its data") }
                let frame = 2 * format.channels
                return (
                    (0..<size / frame).map { i in
                        let sum = (0..<format.channels).reduce(0) {
                            $0 + Int(Int16(truncatingIfNeeded: number(start + i * frame + 2 * $1, 2)))
                        }
                        return Int16(sum / format.channels)
                    }, format.rate
                )
            }
            position = start + size + size % 2
        }
        throw FileError(name, "has no data")
    }

    /// Writes samples in [-1, 1] as 16-bit mono PCM.
    public static func write(_ samples: [Double], rate: Int, to path: String) throws(FileError) {
        func little(_ value: Int, _ length: Int) -> [UInt8] { (0..<length).map { UInt8(value >> (8 * $0) & 255) } }
        let data = samples.flatMap { sample -> [UInt8] in
            let value = sample.isFinite ? max(-1, min(1, sample)) : 0
            return little(Int((value * 32767).rounded()) & 0xFFFF, 2)
        }
        var bytes: [UInt8] = Array("RIFF".utf8) + little(36 + data.count, 4) + Array("WAVEfmt ".utf8)
        bytes += little(16, 4) + little(1, 2) + little(1, 2) + little(rate, 4) + little(2 * rate, 4)
        bytes += little(2, 2) + little(16, 2) + Array("data".utf8) + little(data.count, 4) + data
        try Files.write(bytes, to: path)
    }

    /// The code 0 ..< levels of a sample in [-1, 1] under mu-law companding with mu = levels - 1
    /// (ITU-T G.711; van den Oord et al. 2016, section 2.2).
    public static func muLaw(_ sample: Double, levels: Int = 256) -> Int {
        let mu = Double(levels - 1)
        let x = max(-1, min(1, sample))
        let y = (x < 0 ? -1 : 1) * Math.log1p(mu * abs(x)) / Math.log1p(mu)
        return min(levels - 1, Int((y + 1) / 2 * mu + 0.5))
    }

    /// The sample that a code stands for.
    public static func sample(muLaw code: Int, levels: Int = 256) -> Double {
        let mu = Double(levels - 1)
        let y = 2 * Double(code) / mu - 1
        return (y < 0 ? -1 : 1) * (Math.exp(abs(y) * Math.log1p(mu)) - 1) / mu
    }
}

extension Alphabet {
    /// The symbols of a text.
    /// - Throws: `FileError` for a byte that the alphabet lacks.
    public func encode(_ text: [UInt8], name: String) throws(FileError) -> [UInt8] {
        var index = [Int](repeating: -1, count: 256)
        for (i, byte) in bytes.enumerated() { index[Int(byte)] = i }
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        for (position, byte) in text.enumerated() {
            guard index[Int(byte)] >= 0 else {
                throw FileError(name, "byte \(byte) at \(position) does not occur in the training text")
            }
            result.append(UInt8(index[Int(byte)]))
        }
        return result
    }
}
