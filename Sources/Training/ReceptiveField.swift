import Graph

/// What one conditional of a model may depend on, layer by layer, against what its order allows.
public struct ReceptiveField: Sendable {
    public enum Mark: UInt8, Sendable {
        /// Not allowed by the order, and not read.
        case later
        /// Allowed and read.
        case read
        /// Allowed and not read: a blind spot, or beyond the reach of the layers.
        case missing
        /// Read and not allowed.
        case leak
        /// The variable whose conditional it is.
        case own
    }

    /// The convolutions from the input on, and at last the conditional itself.
    public let layers: [(name: String, marks: [Mark])]
    public let shape: [Int]

    /// Reads the dependency rules of a model.
    /// - Parameters:
    ///   - output: one element for each variable, of x alone.
    ///   - shape: `[channels, height, width]`, `[frames, height, width]` or `[steps]`.
    public init(output: Tensor, of x: Tensor, order: Order, shape: [Int], variable: Int) throws {
        self.shape = shape
        let dependencies = try Dependencies([output])
        let own = order.index[variable]
        func marks(_ reached: [Bool]?, isLast: Bool) -> [Mark] {
            order.index.indices.map { v in
                if v == variable, reached?[v] != true || !isLast { return .own }
                let isRead = reached?[v] == true
                if order.index[v] < own { return isRead ? .read : .missing }
                return isRead && isLast ? .leak : isRead ? .read : .later
            }
        }
        var layers: [(String, [Mark])] = []
        let spatial = shape.count == 3 ? Array(shape[1...]) : shape
        let place = variable % spatial.reduce(1, *)
        for node in dependencies.nodes {
            guard let convolution = node.operation as? Convolution, convolution.role == .forward else { continue }
            let extents = Array(node.types[0].shape.resolved(batch: 1).dropFirst(2))
            let channels = node.types[0].shape[1].coefficient
            // Layers at another size, or over frames, are looked at where the variable lies in them.
            guard extents.count == spatial.count, zip(extents, spatial).allSatisfy({ $0 <= $1 }) else { continue }
            var (position, rest) = (0, place)
            for axis in extents.indices {
                let inner = spatial[(axis + 1)...].reduce(1, *)
                position = position * extents[axis] + rest / inner * extents[axis] / spatial[axis]
                rest %= inner
            }
            let width = extents.reduce(1, *)
            let seed = (0..<channels * width).map { $0 % width == position }
            let reached = dependencies.reach([Tensor(node): seed])[x]
            layers.append(
                (node.location.map { "\(convolution.name) (\($0))" } ?? convolution.name, marks(reached, isLast: false))
            )
        }
        let last = dependencies.reach(from: output, element: variable)[x]
        layers.append(("conditional", marks(last, isLast: true)))
        self.layers = layers
    }

    /// Variables that the last layer should read and does not, and those that it must not read and does.
    public var missing: Int { layers.last?.marks.count { $0 == .missing } ?? 0 }
    public var leaking: Int { layers.last?.marks.count { $0 == .leak } ?? 0 }

    /// One panel for each layer, channels or frames below one another: read white, missing red, leaking magenta, the variable
    /// itself blue, what comes later dark.
    public func picture() -> HostArray {
        let (planes, height, width) = shape.count == 3 ? (shape[0], shape[1], shape[2]) : (1, 1, shape[0])
        // Pixels stay visible: small images are drawn larger, sequences as bands.
        let zoom = max(1, min(8, 224 / max(width, height)))
        let tall = shape.count == 3 ? zoom : 16
        let across = shape.count == 3
        let (panelHeight, panelWidth) = (planes * (height * tall + 2), width * zoom + 2)
        let columns = across ? min(layers.count, 8) : 1
        let rows = (layers.count + columns - 1) / columns
        let full = columns * panelWidth
        var pixels = [UInt8](repeating: 96, count: rows * panelHeight * full * 3)
        for (index, layer) in layers.enumerated() {
            for plane in 0..<planes {
                for y in 0..<height * tall {
                    for x in 0..<width * zoom {
                        let mark = layer.marks[(plane * height + y / tall) * width + x / zoom]
                        let row = index / columns * panelHeight + plane * (height * tall + 2) + y + 1
                        let place = (row * full + index % columns * panelWidth + x + 1) * 3
                        let colour: [UInt8] =
                            switch mark {
                            case .later: [24, 24, 32]
                            case .read: [255, 255, 255]
                            case .missing: [220, 50, 47]
                            case .leak: [211, 54, 230]
                            case .own: [38, 120, 255]
                            }
                        for c in 0..<3 { pixels[place + c] = colour[c] }
                    }
                }
            }
        }
        return HostArray(pixels, shape: [rows * panelHeight, full, 3])
    }
}
