import Graph
import Likelihood

/// What the axes of an array of examples are.
struct ArrayLayout {
    /// Of an example as models take it: images `[channels, height, width]`, videos `[frames, height, width]`.
    var dimensions: [Int]
    /// Whether the file has channels last.
    var isChannelsLast = false
    var isVideo = false

    static let names = ["vectors", "hw", "hwc", "chw", "video"]

    /// - Parameters:
    ///   - shape: of the array, with the axis of examples.
    ///   - name: one of `names`, or empty to find it out.
    /// - Throws: `FileError` where the array is no such examples, or could be read in two ways.
    init(_ shape: [Int], _ name: String, as wanted: ExampleKind?, _ path: String) throws(FileError) {
        guard let count = shape.first, count > 0, !shape.contains(0) else {
            throw FileError(path, "is an array \(shape); expected one example or more [examples, ..]")
        }
        let inner = Array(shape.dropFirst())
        self = try name.isEmpty ? Self.found(inner, wanted, path) : Self.named(name, inner, path)
        let problem =
            switch wanted {
            case .sequences where dimensions.count > 1:
                "holds examples \(dimensions); this family takes sequences [examples, steps]"
            case .videos where !isVideo:
                "holds examples \(inner); this family takes videos [examples, frames, height, width]"
            case .images where isVideo || dimensions.count != 3:
                "holds examples \(inner); this family takes images [examples, height, width] or with channels"
            default: nil as String?
            }
        if let problem { throw FileError(path, problem + Self.advice(inner, wanted)) }
    }

    private init(dimensions: [Int], isChannelsLast: Bool = false, isVideo: Bool = false) {
        (self.dimensions, self.isChannelsLast, self.isVideo) = (dimensions, isChannelsLast, isVideo)
    }

    private static func advice(_ inner: [Int], _ wanted: ExampleKind?) -> String {
        wanted == .images && inner.count == 1 && side(inner[0]) != nil
            ? "; if rows are square images, say so with --set layout=hw" : "; save them so, or choose another family"
    }

    /// The side of a square of some pixels.
    private static func side(_ area: Int) -> Int? {
        let side = Int(Double(area).squareRoot().rounded())
        return side * side == area ? side : nil
    }

    private static func named(_ name: String, _ inner: [Int], _ path: String) throws(FileError) -> ArrayLayout {
        switch (name, inner.count) {
        case ("vectors", _): return ArrayLayout(dimensions: [inner.reduce(1, *)])
        case ("hw", 2): return ArrayLayout(dimensions: [1] + inner)
        case ("hw", 1):
            guard let side = side(inner[0]) else {
                throw FileError(
                    path,
                    "has rows of \(inner[0]) pixels, which are no square; save images as [examples, height, width]")
            }
            return ArrayLayout(dimensions: [1, side, side])
        case ("hwc", 3): return ArrayLayout(dimensions: [inner[2], inner[0], inner[1]], isChannelsLast: true)
        case ("chw", 3): return ArrayLayout(dimensions: inner)
        case ("video", 3): return ArrayLayout(dimensions: inner, isVideo: true)
        default:
            throw FileError(path, "holds examples \(inner), which cannot be of layout \(name)")
        }
    }

    private static func found(_ inner: [Int], _ wanted: ExampleKind?, _ path: String) throws(FileError) -> ArrayLayout {
        switch inner.count {
        case 0: return ArrayLayout(dimensions: [1])
        case 1: return ArrayLayout(dimensions: inner)
        case 2: return ArrayLayout(dimensions: [1] + inner)
        case 3 where wanted == .videos: return ArrayLayout(dimensions: inner, isVideo: true)
        case 3:
            let (first, last) = ([1, 3].contains(inner[0]), [1, 3].contains(inner[2]))
            if first != last {
                return first
                    ? ArrayLayout(dimensions: inner)
                    : ArrayLayout(dimensions: [inner[2], inner[0], inner[1]], isChannelsLast: true)
            }
            let others = wanted == .images || wanted == .sequences ? "" : " or vectors"
            throw FileError(
                path,
                "holds examples \(inner), of which \(first ? "the first and the last axis" : "no axis") may be colours; say what they are with --set layout=hwc, chw, video\(others)"
            )
        default:
            throw FileError(
                path, "holds examples \(inner); expected three axes or fewer, or --set layout=vectors")
        }
    }
}

extension HostArray {
    /// Brings the channels of images `[examples, height, width, channels]` to the front, with memory for one image besides.
    mutating func moveChannelsToFront() {
        let (count, area, channels, size) = (shape[0], shape[1] * shape[2], shape[3], type.byteCount)
        let front = [count, channels, shape[1], shape[2]]
        if channels > 1 {
            withUnsafeMutableBytes { bytes in
                let image = UnsafeMutableRawPointer.allocate(byteCount: area * channels * size, alignment: 8)
                defer { image.deallocate() }
                for i in 0..<count {
                    let base = bytes.baseAddress! + i * area * channels * size
                    image.copyMemory(from: base, byteCount: area * channels * size)
                    for c in 0..<channels {
                        for p in 0..<area {
                            (base + (c * area + p) * size)
                                .copyMemory(from: image + (p * channels + c) * size, byteCount: size)
                        }
                    }
                }
            }
        }
        self = reshaped(front)
    }
}
