import CPNG
import Graph

extension PNG {
    /// A picture as models take it.
    struct Picture {
        /// Of `[channels, height, width]`, one channel or three.
        var pixels: [UInt8]
        let channels: Int
        let height: Int
        let width: Int
        /// What of the file is not in it.
        let hadAlpha: Bool
        let had16Bits: Bool

        var shape: [Int] { [channels, height, width] }
    }

    /// The pixels of a grey or coloured picture as the file has them: palettes are looked up, 16 bits become 8, transparency is left
    /// out, and what the file says of gamma and profiles changes nothing.
    static func read(_ bytes: [UInt8], name: String) throws(FileError) -> Picture {
        let (plain, bitDepth) = try criticalChunks(of: bytes, name)
        // The library keeps the address between its calls.
        let result: Result<Picture, FileError> = plain.withUnsafeBytes { plain in
            do throws(FileError) {
                return .success(try decode(plain, bitDepth: bitDepth, name))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private static func decode(
        _ bytes: UnsafeRawBufferPointer, bitDepth: UInt8, _ name: String
    ) throws(FileError) -> Picture {
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        defer { png_image_free(&image) }
        guard png_image_begin_read_from_memory(&image, bytes.baseAddress, bytes.count) != 0 else {
            throw FileError(name, "is a damaged PNG: \(message(image))")
        }
        let (width, height) = (Int(image.width), Int(image.height))
        guard width <= 1 << 24, height <= 1 << 24, width * height * 3 <= 1 << 24 else {
            throw FileError(
                name, "is a picture of \(width)x\(height); expected 5 million pixels or fewer, make it smaller")
        }
        let isColoured = image.format & png_uint_32(PNG_FORMAT_FLAG_COLOR) != 0
        let hasAlpha = image.format & png_uint_32(PNG_FORMAT_FLAG_ALPHA) != 0
        image.format =
            (isColoured ? png_uint_32(PNG_FORMAT_FLAG_COLOR) : 0) | (hasAlpha ? png_uint_32(PNG_FORMAT_FLAG_ALPHA) : 0)
        // Otherwise 16 bits are taken for brightness without gamma.
        image.flags |= png_uint_32(PNG_IMAGE_FLAG_16BIT_sRGB)
        let channels = isColoured ? 3 : 1
        let stride = channels + (hasAlpha ? 1 : 0)
        var lines = [UInt8](repeating: 0, count: width * height * stride)
        let done = png_image_finish_read(&image, nil, &lines, 0, nil)
        // Without the chunks that are no part of the picture, a warning means damage as well.
        guard done != 0, image.warning_or_error == 0 else {
            throw FileError(name, "is a damaged PNG: \(message(image))")
        }
        var pixels = lines
        if stride > 1 {
            let area = width * height
            pixels = [UInt8](repeating: 0, count: channels * area)
            for c in 0..<channels { for i in 0..<area { pixels[c * area + i] = lines[i * stride + c] } }
        }
        return Picture(
            pixels: pixels, channels: channels, height: height, width: width, hadAlpha: hasAlpha,
            had16Bits: bitDepth == 16)
    }

    /// The chunks that make the picture, without those of colour spaces, which would change its values, and of texts.
    private static func criticalChunks(
        of bytes: [UInt8], _ name: String
    ) throws(FileError) -> (bytes: [UInt8], bitDepth: UInt8) {
        let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
        guard bytes.starts(with: signature), bytes.count >= 33, Array(bytes[12..<16]) == Array("IHDR".utf8) else {
            throw FileError(name, "expected a PNG, found something else")
        }
        var kept = signature
        kept.reserveCapacity(bytes.count)
        var position = 8
        while position + 12 <= bytes.count {
            let length = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
            let type = bytes[position + 4..<position + 8]
            guard length <= bytes.count - position - 12 else { break }
            let end = position + 12 + length
            // A capital first letter marks what no reader may leave out.
            if type.first! & 0x20 == 0 { kept += bytes[position..<end] }
            if type.elementsEqual("IEND".utf8) { return (kept, bytes[24]) }
            position = end
        }
        throw FileError(name, "is a damaged PNG: it ends before its end is marked, or was cut short")
    }

    private static func message(_ image: png_image) -> String {
        withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

/// Pictures of one size.
struct PictureFiles {
    let path: String
    private(set) var shape: [Int] = []
    private(set) var names: [String] = []
    private var pixels: [UInt8] = []
    private(set) var notices: [String] = []
    private var (alpha, deep): (Int, Int) = (0, 0)

    init(_ path: String) { self.path = path }

    mutating func append(_ name: String, _ bytes: [UInt8], of count: Int) throws(FileError) {
        let picture = try PNG.read(bytes, name: name)
        if names.isEmpty {
            shape = picture.shape
            try Memory.require(count * picture.pixels.count, for: path)
            pixels.reserveCapacity(count * picture.pixels.count)
        }
        guard picture.shape == shape else {
            throw FileError(
                name,
                "is \(Self.words(picture.shape)), but \(names[0]) is \(Self.words(shape)); bring all pictures to one size and one kind"
            )
        }
        pixels += picture.pixels
        names.append(name)
        alpha += picture.hadAlpha ? 1 : 0
        deep += picture.had16Bits ? 1 : 0
    }

    /// uint8 `[pictures, channels, height, width]`; what was collected is handed over.
    mutating func take() -> HostArray {
        let bytes = pixels
        pixels = []
        if alpha > 0 { notices.append("the transparency of \(alpha) of \(names.count) pictures is left out") }
        if deep > 0 {
            notices.append("\(deep) of \(names.count) pictures have 16 bits a channel, of which the upper 8 are kept")
        }
        return HostArray(type: .uint8, shape: [names.count] + shape, bytes: bytes)
    }

    private static func words(_ shape: [Int]) -> String {
        "\(shape[0] == 3 ? "coloured" : "grey") of \(shape[2])x\(shape[1])"
    }
}
