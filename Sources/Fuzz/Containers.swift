import CLZMA
import CZip

/// Files around files, so that what is damaged within one arrives at its reader.
enum Container {
    @Sendable static func gzip(_ bytes: [UInt8]) -> [UInt8] {
        var stream = z_stream()
        // 15 bits of window, and 16 for the header of gzip.
        guard
            deflateInit2_(
                &stream, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
                == Z_OK
        else { return bytes }
        defer { deflateEnd(&stream) }
        var (input, output) = (bytes, [UInt8](repeating: 0, count: Int(deflateBound(&stream, UInt(bytes.count)))))
        input.withUnsafeMutableBufferPointer { input in
            output.withUnsafeMutableBufferPointer { output in
                (stream.next_in, stream.avail_in) = (input.baseAddress, UInt32(input.count))
                (stream.next_out, stream.avail_out) = (output.baseAddress, UInt32(output.count))
                _ = deflate(&stream, Z_FINISH)
            }
        }
        return Array(output.prefix(Int(stream.total_out)))
    }

    @Sendable static func xz(_ bytes: [UInt8]) -> [UInt8] {
        var options = lzma_options_lzma()
        lzma_lzma_preset(&options, 0)
        // The smallest dictionary: making a larger one takes longer than reading these files.
        options.dict_size = 4096
        var output = [UInt8](repeating: 0, count: lzma_stream_buffer_bound(bytes.count))
        var size = 0
        withUnsafeMutablePointer(to: &options) { options in
            // Swift does not see the macros LZMA_FILTER_LZMA2 and LZMA_VLI_UNKNOWN.
            var filters = [lzma_filter(id: 0x21, options: options), lzma_filter(id: UInt64.max, options: nil)]
            _ = lzma_stream_buffer_encode(
                &filters, LZMA_CHECK_CRC32, nil, bytes, bytes.count, &output, &size, output.count)
        }
        return Array(output.prefix(size))
    }

    /// An archive of files that are stored as they are.
    static func zip(_ files: [(name: String, bytes: [UInt8])]) -> [UInt8] {
        var (archive, directory): ([UInt8], [UInt8]) = ([], [])
        for (name, bytes) in files {
            let sum = Int(crc32(0, bytes, UInt32(bytes.count)))
            let common =
                little([20, 0, 0, 0, 0x21], 2) + little([sum, bytes.count, bytes.count], 4)
                + little([name.utf8.count, 0], 2)
            directory += little([0x0201_4B50], 4) + little([20], 2) + common + little([0, 0, 0], 2)
            directory += little([0, archive.count], 4) + Array(name.utf8)
            archive += little([0x0403_4B50], 4) + common + Array(name.utf8) + bytes
        }
        let end = little([0x0605_4B50], 4) + little([0, 0, files.count, files.count], 2)
        return archive + directory + end + little([directory.count, archive.count], 4) + [0, 0]
    }

    static func tar(_ files: [(name: String, bytes: [UInt8])]) -> [UInt8] {
        var archive: [UInt8] = []
        for (name, bytes) in files {
            var header = Array(name.utf8.prefix(100)) + [UInt8](repeating: 0, count: 512 - min(100, name.utf8.count))
            header.replaceSubrange(124..<135, with: octal(bytes.count, 11))
            header[156] = 48
            archive += header + bytes + [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
        }
        return withChecksums(archive + [UInt8](repeating: 0, count: 1024))
    }

    /// The checksum of every header of a tar archive that can be found, made right.
    @Sendable static func withChecksums(_ archive: [UInt8]) -> [UInt8] {
        var archive = archive
        var start = 0
        while start + 512 <= archive.count {
            for i in 148..<156 { archive[start + i] = 32 }
            let header = archive[start..<start + 512]
            let sum = header.reduce(0) { $0 + Int($1) }
            if sum == 8 * 32 {
                for i in 148..<156 { archive[start + i] = 0 }
            } else {
                archive.replaceSubrange(start + 148..<start + 155, with: octal(sum, 6) + [0])
            }
            let digits = header[(start + 124)..<(start + 135)].filter { (48...55).contains($0) }
            let size = min(1 << 30, digits.reduce(0) { $0 << 3 | Int($1 - 48) })
            start += 512 + (size + 511) / 512 * 512
        }
        return archive
    }

    /// A picture whose lines are given as they lie in the file, none of them filtered.
    static func png(
        width: Int, height: Int, depth: UInt8, colour: UInt8, _ lines: [[UInt8]], palette: [UInt8] = [],
        extra: [(type: String, bytes: [UInt8])] = []
    ) -> [UInt8] {
        let pixels: [UInt8] = lines.flatMap { [UInt8(0)] + $0 }
        var (size, packed) = (uLongf(compressBound(UInt(pixels.count))), [UInt8]())
        packed = [UInt8](repeating: 0, count: Int(size))
        compress(&packed, &size, pixels, UInt(pixels.count))
        let header: [UInt8] = big(width) + big(height) + [depth, colour, 0, 0, 0]
        var chunks: [(type: String, bytes: [UInt8])] = [("IHDR", header)] + extra
        if !palette.isEmpty { chunks.append(("PLTE", palette)) }
        chunks += [("IDAT", Array(packed.prefix(Int(size)))), ("IEND", [])]
        var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
        for chunk in chunks {
            file += big(chunk.bytes.count)
            file += Array(chunk.type.utf8) + chunk.bytes + [0, 0, 0, 0]
        }
        return withSums(file)
    }

    /// The checksum of every chunk of a PNG that can be found, made right.
    @Sendable static func withSums(_ picture: [UInt8]) -> [UInt8] {
        var picture = picture
        var start = 8
        while start + 12 <= picture.count {
            let length = picture[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
            let end = start + 8 + length
            guard end + 4 <= picture.count else { break }
            let sum = Array(picture[start + 4..<end]).withUnsafeBufferPointer {
                crc32(0, $0.baseAddress, UInt32($0.count))
            }
            picture.replaceSubrange(end..<end + 4, with: big(Int(sum)))
            start = end + 4
        }
        return picture
    }

    private static func big(_ value: Int) -> [UInt8] { little([value], 4).reversed() }

    private static func octal(_ value: Int, _ length: Int) -> [UInt8] {
        let digits = Array(String(value, radix: 8).utf8)
        return [UInt8](repeating: 48, count: max(0, length - digits.count)) + digits
    }

    static func little(_ values: [Int], _ width: Int) -> [UInt8] {
        values.flatMap { value in (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    }
}
