import Graph
import Likelihood

/// Sounds of wav files, and their mu-law codes.
public enum Sound {
    /// Samples in [-1, 1] of a wav file of PCM of 8, 16, 24 or 32 bits or of floats; several channels are averaged.
    public static func read(wav bytes: [UInt8], name: String) throws(FileError) -> (samples: [Float], rate: Int) {
        let file = WaveFile(bytes: bytes, name: name)
        guard bytes.count >= 12, file.tag(0) == "RIFF", file.tag(8) == "WAVE" else {
            throw FileError(name, "expected a wav file (RIFF, WAVE)")
        }
        var format: WaveFile.Format?
        var position = 12
        while position + 8 <= bytes.count {
            let (chunk, start) = (file.tag(position), position + 8)
            var size = file.number(position + 4, 4)
            if chunk == "data", file.isUnknown(size) { size = bytes.count - start }
            guard start + size <= bytes.count else { throw FileError(name, "ends within its chunk “\(chunk)”") }
            if chunk == "fmt " {
                format = try file.format(at: start, size: size)
            } else if chunk == "data" {
                guard let format else { throw FileError(name, "has no format before its data") }
                return (try file.samples(at: start, count: size / format.blockAlign, format), format.rate)
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

/// The parts of a wav file (Microsoft, Multimedia Programming Interface and Data Specifications 1.0, 1991; multiple channel audio
/// data, 2001).
private struct WaveFile {
    let bytes: [UInt8]
    let name: String

    struct Format {
        let channels: Int
        let rate: Int
        /// Bytes of the samples of all channels at one time.
        let blockAlign: Int
        let bits: Int
        let isFloat: Bool
    }

    func number(_ offset: Int, _ length: Int) -> Int {
        (0..<length).reversed().reduce(0) { $0 << 8 | Int(bytes[offset + $1]) }
    }

    func tag(_ offset: Int) -> String { String(decoding: bytes[offset..<offset + 4], as: UTF8.self) }

    /// Whether a size of data was never written, as where a program writes into a pipe and cannot go back: then all that follows is
    /// sound. Programs leave the largest size there, one that is nearly so, or a zero, which the size of the file is then too.
    func isUnknown(_ size: Int) -> Bool {
        size >= 0x7FFF_F000 || (size == 0 && number(4, 4) == 0)
    }

    func format(at start: Int, size: Int) throws(FileError) -> Format {
        guard size >= 16 else { throw FileError(name, "its format chunk has \(size) bytes; expected 16") }
        var code = number(start, 2)
        if code == 0xFFFE {
            // What the codes of a plain header are followed by, as the name of a format.
            let rest: [UInt8] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]
            guard size >= 40, Array(bytes[start + 26..<start + 40]) == rest else {
                throw FileError(name, "is extensible wav of a format without a known name; convert it to PCM")
            }
            code = number(start + 24, 2)
        }
        let (channels, rate, blockAlign, bits) = (
            number(start + 2, 2), number(start + 4, 4), number(start + 12, 2), number(start + 14, 2)
        )
        let names = [1: "PCM", 2: "ADPCM", 3: "floats", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 85: "MP3"]
        guard code == 1 && [8, 16, 24, 32].contains(bits) || code == 3 && [32, 64].contains(bits) else {
            throw FileError(
                name,
                "expected PCM of 8, 16, 24 or 32 bits or floats of 32 or 64, found \(bits)-bit \(names[code] ?? "samples of format \(code)"); convert it first"
            )
        }
        guard channels > 0, rate > 0, blockAlign == bits / 8 * channels else {
            throw FileError(
                name,
                "its format contradicts itself: \(channels) channels of \(bits) bits at \(rate) Hz in blocks of \(blockAlign) bytes"
            )
        }
        return Format(channels: channels, rate: rate, blockAlign: blockAlign, bits: bits, isFloat: code == 3)
    }

    func samples(at start: Int, count: Int, _ format: Format) throws(FileError) -> [Float] {
        try Memory.require(4 * count, for: name)
        let width = format.bits / 8
        var isFinite = true
        let samples = bytes.withUnsafeBytes { bytes in
            (0..<count).map { i -> Float in
                var sum = 0.0
                for channel in 0..<format.channels {
                    sum += Self.sample(bytes, start + i * format.blockAlign + channel * width, format)
                }
                isFinite = isFinite && sum.isFinite
                return Float(max(-1, min(1, sum / Double(format.channels))))
            }
        }
        guard isFinite else { throw FileError(name, "holds a sample that is not a finite number") }
        return samples
    }

    /// One sample in [-1, 1], or beyond where it is a float.
    private static func sample(_ bytes: UnsafeRawBufferPointer, _ at: Int, _ format: Format) -> Double {
        switch (format.bits, format.isFloat) {
        // Silence is 128.
        case (8, _): return (Double(bytes[at]) - 128) / 128
        case (16, _): return Double(bytes.loadUnaligned(fromByteOffset: at, as: Int16.self)) / 0x1p15
        case (24, _):
            let upper = Int32(bytes[at]) << 8 | Int32(bytes[at + 1]) << 16 | Int32(bytes[at + 2]) << 24
            return Double(upper) / 0x1p31
        case (32, false): return Double(bytes.loadUnaligned(fromByteOffset: at, as: Int32.self)) / 0x1p31
        case (32, true): return Double(bytes.loadUnaligned(fromByteOffset: at, as: Float.self))
        default: return bytes.loadUnaligned(fromByteOffset: at, as: Double.self)
        }
    }
}

extension Alphabet {
    /// The symbols of a text.
    /// - Throws: `FileError` for a byte that the alphabet lacks.
    public func encode(_ text: [UInt8], name: String) throws(FileError) -> [UInt8] {
        try requireSymbols(text, name)
        var symbols = text
        encodeInPlace(&symbols)
        return symbols
    }
}
