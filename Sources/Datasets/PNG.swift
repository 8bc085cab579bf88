import CPNG
import Graph

/// Pictures.
public enum PNG {
    /// Writes a grey (`[height, width]`) or colour (`[height, width, 3]`) picture of bytes.
    public static func write(_ pixels: HostArray, to path: String) throws(FileError) {
        guard pixels.type == .uint8, pixels.shape.count == 2 || (pixels.shape.count == 3 && pixels.shape[2] == 3),
            pixels.count > 0
        else {
            throw FileError(
                path, "expected bytes of [height, width] or [height, width, 3], found \(pixels.type)\(pixels.shape)")
        }
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        image.width = png_uint_32(pixels.shape[1])
        image.height = png_uint_32(pixels.shape[0])
        image.format = pixels.shape.count == 3 ? png_uint_32(PNG_FORMAT_FLAG_COLOR) : 0
        var size = png_alloc_size_t(pixels.count * 2 + 65_536)
        var encoded = [UInt8](repeating: 0, count: Int(size))
        let done = pixels.withUnsafeBytes {
            png_image_write_to_memory(&image, &encoded, &size, 0, $0.baseAddress, 0, nil)
        }
        guard done != 0 else { throw FileError(path, "the picture cannot be encoded") }
        try Files.write(encoded[..<Int(size)], to: path)
    }

    /// Images `[count, channels * height * width]` side by side, with a grey line between them; one channel is grey, three are
    /// red, green and blue.
    /// - Parameter white: the value of full brightness.
    public static func sheet(
        _ images: HostArray, channels: Int = 1, height: Int, width: Int, white: Double = 1, columns: Int? = nil,
        zoom: Int = 2
    ) -> HostArray {
        let count = images.shape[0]
        let columns = max(1, columns ?? Int(Double(count).squareRoot().rounded(.up)))
        let rows = (count + columns - 1) / columns
        let (cellHeight, cellWidth) = (height * zoom + 2, width * zoom + 2)
        let fullWidth = columns * cellWidth
        let colours = channels == 3 ? 3 : 1
        var pixels = [UInt8](repeating: 96, count: rows * cellHeight * fullWidth * colours)
        let values = images.floats
        let scale = Float(255 / white)
        for i in 0..<count {
            for y in 0..<height * zoom {
                for x in 0..<width * zoom {
                    let place = (i / columns * cellHeight + y + 1) * fullWidth + i % columns * cellWidth + x + 1
                    for c in 0..<colours {
                        let value = values[((i * channels + c) * height + y / zoom) * width + x / zoom]
                        pixels[place * colours + c] = UInt8(max(0, min(255, (value.isNaN ? 0 : value) * scale)))
                    }
                }
            }
        }
        let shape = [rows * cellHeight, fullWidth]
        return HostArray(pixels, shape: colours == 3 ? shape + [3] : shape)
    }
}
