import Graph

/// Images of the usual sets.
public enum Images {
    /// The binary version of CIFAR-10: records of a label and 3072 bytes, red, green, blue.
    public static func cifar(binary path: String) throws(FileError) -> (images: HostArray, labels: [Int32]) {
        let bytes = try Files.read(path, limit: 1 << 32)
        let record = 3073
        guard bytes.count >= record, bytes.count % record == 0 else {
            throw FileError(path, "is \(bytes.count) bytes; expected records of \(record): a label and 3x32x32 bytes")
        }
        let count = bytes.count / record
        let labels = (0..<count).map { Int32(bytes[$0 * record]) }
        if let bad = labels.firstIndex(where: { $0 > 9 }) {
            throw FileError(path, "record \(bad) has label \(labels[bad]); expected 0 to 9")
        }
        var pixels: [UInt8] = []
        pixels.reserveCapacity(count * 3072)
        for i in 0..<count { pixels += bytes[i * record + 1..<(i + 1) * record] }
        return (HostArray(pixels, shape: [count, 3, 32, 32]), labels)
    }

    /// The four files of MNIST, split 50000, 10000 and 10000 as the papers do.
    public static func mnist(_ folder: String) throws(FileError) -> Dataset {
        func read(_ name: String) throws(FileError) -> HostArray {
            for path in ["\(folder)/\(name).gz", "\(folder)/\(name)"] where Files.exists(path) {
                return try IDX.read(path)
            }
            throw FileError(
                "\(folder)/\(name).gz",
                "is not there. It is one of the four files of MNIST (LeCun, Cortes, Burges); put them there, or name another folder with --data"
            )
        }
        let images = try read("train-images-idx3-ubyte")
        let labels = try read("train-labels-idx1-ubyte")
        let testImages = try read("t10k-images-idx3-ubyte")
        let testLabels = try read("t10k-labels-idx1-ubyte")
        for (i, l) in [(images, labels), (testImages, testLabels)] {
            guard i.shape.count == 3, i.shape[1...] == [28, 28], l.shape == [i.shape[0]] else {
                throw FileError(
                    folder, "expected images [n, 28, 28] with labels [n], found \(i.shape) and \(l.shape)")
            }
        }
        guard images.shape[0] == 60000 else {
            throw FileError(folder, "expected 60000 training images, found \(images.shape[0])")
        }
        for (name, array) in [("train", labels), ("t10k", testLabels)] {
            if let bad = array.doubles.firstIndex(where: { $0 > 9 }) {
                throw FileError(
                    "\(folder)/\(name)-labels-idx1-ubyte",
                    "label \(bad) is \(Int(array.doubles[bad])); expected a digit from 0 to 9")
            }
        }
        let all = labels.doubles.map { Int32($0) }
        var result = try Dataset(
            name: "mnist", train: images.rows(0..<50000), valid: images.rows(50000..<60000), test: testImages,
            exampleShape: [1, 28, 28])
        result.labels = Dataset.Labels(
            train: Array(all[..<50000]), valid: Array(all[50000...]), test: testLabels.doubles.map { Int32($0) },
            classes: 10)
        return result
    }

    /// Each pixel 1 with probability its brightness, drawn anew for each `step`: dynamic binarization
    /// (Salakhutdinov and Murray 2008).
    public static func binarized(_ images: HostArray, seed: UInt64, stream: String, step: Int = 0) -> HostArray {
        let random = HostRandom(seed: seed, stream: "binarize.\(stream)")
        let width = images.shape.dropFirst().reduce(1, *)
        return images.withUnsafeBytes { bytes in
            HostArray(
                (0..<images.count).map { i -> UInt8 in
                    // 256 * uniform, below the pixel's value out of 255.
                    let word = random.bits(step: step, example: i / width, variable: i % width)
                    return UInt64(word) * 255 < UInt64(bytes[i]) << 32 ? 1 : 0
                }, shape: images.shape)
        }
    }

    /// Each image `[examples, channels * height * width]` slanted a little, anew for each `step`: rows and then columns move by
    /// whole pixels, so that the noise of a binary image stays what it was; what comes in repeats the border.
    /// - Parameter limit: the most that neighbouring rows, and neighbouring columns, move against each other, in pixels; even up to it.
    public static func sheared(
        _ images: HostArray, shape: (channels: Int, height: Int, width: Int), limit: Double, seed: UInt64, step: Int
    ) -> HostArray {
        let random = HostRandom(seed: seed, stream: "shear")
        let (height, width, size) = (shape.height, shape.width, images.type.byteCount)
        let area = height * width
        /// How far each of `count` lines moves. Where the steps between lines fall is drawn too.
        func moves(_ count: Int, example: Int, variable: Int) -> [Int] {
            let u = { random.uniform(step: step, example: example, variable: variable + $0) }
            let (slope, offset) = ((2 * u(0) - 1) * limit, u(1))
            return (0..<count).map { Int((slope * (Double($0) - Double(count - 1) / 2) + offset).rounded(.down)) }
        }
        var bytes = [UInt8](repeating: 0, count: images.count * size)
        images.withUnsafeBytes { source in
            for example in 0..<images.count / (shape.channels * area) {
                let rows = moves(height, example: example, variable: 0)
                let columns = moves(width, example: example, variable: 2)
                for plane in example * shape.channels..<(example + 1) * shape.channels {
                    for r in 0..<height {
                        for c in 0..<width {
                            let row = min(max(r - columns[c], 0), height - 1)
                            let column = min(max(c - rows[row], 0), width - 1)
                            let (to, from) = (plane * area + r * width + c, plane * area + row * width + column)
                            for k in 0..<size { bytes[to * size + k] = source[from * size + k] }
                        }
                    }
                }
            }
        }
        return HostArray(type: images.type, shape: images.shape, bytes: bytes)
    }

    /// Videos `[count, frames, size, size]` of a digit that moves and bounces in a square, binary (Srivastava et al. 2015, in
    /// small): digits are halved to 14x14.
    public static func movingDigits(
        _ digits: HostArray, count: Int, frames: Int, size: Int, seed: UInt64, stream: String
    ) -> HostArray {
        let random = HostRandom(seed: seed, stream: "moving.\(stream)")
        let side = 14
        var result = [UInt8](repeating: 0, count: count * frames * size * size)
        digits.withUnsafeBytes { bytes in
            for video in 0..<count {
                let u = { (variable: Int) in random.uniform(example: video, variable: variable) }
                let digit = Int(u(0) * Double(digits.shape[0]))
                let room = Double(size - side)
                var (y, x) = (u(1) * room, u(2) * room)
                let angle = u(3) * 2 * Double.pi
                var (dy, dx) = (2 * Math.sin(angle), 2 * Math.cos(angle))
                for frame in 0..<frames {
                    let (top, left) = (Int(y.rounded()), Int(x.rounded()))
                    for r in 0..<side {
                        for c in 0..<side {
                            var sum = 0
                            for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                                sum += Int(bytes[digit * 784 + (2 * r + a) * 28 + 2 * c + b])
                            }
                            if sum > 2 * 255 {
                                result[((video * frames + frame) * size + top + r) * size + left + c] = 1
                            }
                        }
                    }
                    (y, x) = (y + dy, x + dx)
                    if y < 0 || y > room { (y, dy) = (max(0, min(room, y)), -dy) }
                    if x < 0 || x > room { (x, dx) = (max(0, min(room, x)), -dx) }
                }
            }
        }
        return HostArray(result, shape: [count, frames, size, size])
    }
}
