import Graph

/// Two-dimensional densities that are drawn from and evaluated exactly: in closed form, or by a one-dimensional quadrature
/// to 1e-6. With them the distance of a model to the truth is a number.
public enum PlanarDensity: String, Sendable, CaseIterable {
    /// Two interleaved half circles with Gaussian noise.
    case moons
    /// Eight Gaussians on a circle.
    case eightGaussians = "eight-gaussians"
    /// Uniform on the eight dark fields of a board of four by four.
    case checkerboard
    /// Three noisy circles.
    case rings
    /// Two noisy spirals of one and a half turns.
    case spirals
    /// Five Gaussian arms, turned by an angle that grows with the radius (which preserves area).
    case pinwheel

    private static let ringRadii = [1.0, 2.0, 3.0]
    private static let ringDeviation = 0.12
    private static let curveDeviation = 0.1
    private static let spiralDeviation = 0.08

    /// Points `[count, 2]`, float64; point i is the same for any count.
    public func draw(seed: UInt64, start: Int = 0, count: Int) -> HostArray {
        let random = HostRandom(seed: seed, stream: "density.\(rawValue)")
        var points: [Double] = []
        points.reserveCapacity(2 * count)
        for i in start..<start + count {
            let u = { (variable: Int) in random.uniform(example: i, variable: variable) }
            let n = { (variable: Int) in random.normal(example: i, variable: variable) }
            switch self {
            case .moons, .spirals:
                let (x, y) = curve(u(0) < 0.5 ? 0 : 1, u(1))
                let deviation = self == .moons ? Self.curveDeviation : Self.spiralDeviation
                points += [x + n(2) * deviation, y + n(3) * deviation]
            case .eightGaussians:
                let angle = Double(Int(u(0) * 8)) * Double.pi / 4
                points += [2 * Math.cos(angle) + 0.2 * n(1), 2 * Math.sin(angle) + 0.2 * n(2)]
            case .checkerboard:
                let field = Int(u(0) * 8)
                let (row, column) = (field / 2, field % 2 * 2 + field / 2 % 2)
                points += [Double(column) - 2 + u(1), Double(row) - 2 + u(2)]
            case .rings:
                let radius = Self.ringRadii[Int(u(0) * 3)] + Self.ringDeviation * n(1)
                let angle = 2 * Double.pi * u(2)
                points += [radius * Math.cos(angle), radius * Math.sin(angle)]
            case .pinwheel:
                let (a, b) = (1.5 + 0.4 * n(1), 0.12 * n(2))
                let (x, y) = rotate(a, b, 2 * Double.pi * Double(Int(u(0) * 5)) / 5)
                let turned = rotate(x, y, twist((x * x + y * y).squareRoot()))
                points += [turned.x, turned.y]
            }
        }
        return HostArray(points, shape: [count, 2])
    }

    /// log p(x, y) in nats; minus infinity outside the support.
    public func logDensity(_ x: Double, _ y: Double) -> Double {
        switch self {
        case .eightGaussians:
            return logSum(
                (0..<8).map {
                    normal(
                        x, y, 2 * Math.cos(Double($0) * Double.pi / 4), 2 * Math.sin(Double($0) * Double.pi / 4), 0.2)
                }) - Math.log(8)
        case .checkerboard:
            let (column, row) = (Int((x + 2).rounded(.down)), Int((y + 2).rounded(.down)))
            let isDark = (0..<4).contains(column) && (0..<4).contains(row) && column % 2 == row % 2
            return isDark ? -Math.log(8) : -.infinity
        case .rings:
            let radius = (x * x + y * y).squareRoot()
            // A radius may be drawn negative; both signs give the same point.
            let terms = Self.ringRadii.flatMap {
                [line(radius, $0, Self.ringDeviation), line(-radius, $0, Self.ringDeviation)]
            }
            return logSum(terms) - Math.log(3) - Math.log(2 * Double.pi * Swift.max(radius, 1e-300))
        case .pinwheel:
            let (a, b) = rotate(x, y, -twist((x * x + y * y).squareRoot()))
            return logSum(
                (0..<5).map { arm in
                    let v = rotate(a, b, -2 * Double.pi * Double(arm) / 5)
                    return line(v.x, 1.5, 0.4) + line(v.y, 0, 0.12)
                }) - Math.log(5)
        case .moons, .spirals:
            let deviation = self == .moons ? Self.curveDeviation : Self.spiralDeviation
            // Simpson's rule along each curve; the integrand is a Gaussian in the distance, far wider than a step.
            let steps = self == .moons ? 200 : 800
            var terms: [Double] = []
            for branch in 0..<2 {
                for i in 0...steps {
                    let point = curve(branch, Double(i) / Double(steps))
                    let weight = i == 0 || i == steps ? 1.0 : i % 2 == 1 ? 4 : 2
                    terms.append(normal(x, y, point.x, point.y, deviation) + Math.log(weight / (3 * Double(steps))))
                }
            }
            return logSum(terms) - Math.log(2)
        }
    }

    /// Half circles, or spirals; t in 0...1 is uniform.
    private func curve(_ branch: Int, _ t: Double) -> (x: Double, y: Double) {
        if self == .moons {
            let angle = Double.pi * t
            return branch == 0
                ? (Math.cos(angle) - 0.5, Math.sin(angle) - 0.25) : (0.5 - Math.cos(angle), 0.25 - Math.sin(angle))
        }
        let angle = 3 * Double.pi * t + Double.pi / 2
        let radius = 0.4 + 2.4 * t
        let sign = branch == 0 ? 1.0 : -1
        return (sign * radius * Math.cos(angle), sign * radius * Math.sin(angle))
    }

    private func twist(_ radius: Double) -> Double { 0.9 * radius }

    private func rotate(_ x: Double, _ y: Double, _ angle: Double) -> (x: Double, y: Double) {
        let (c, s) = (Math.cos(angle), Math.sin(angle))
        return (c * x - s * y, s * x + c * y)
    }

    private func line(_ x: Double, _ mean: Double, _ deviation: Double) -> Double {
        let z = (x - mean) / deviation
        return -0.5 * z * z - Math.log(deviation) - 0.9189385332046727
    }

    private func normal(_ x: Double, _ y: Double, _ a: Double, _ b: Double, _ deviation: Double) -> Double {
        line(x, a, deviation) + line(y, b, deviation)
    }

    private func logSum(_ terms: [Double]) -> Double {
        let top = terms.max() ?? -.infinity
        guard top.isFinite else { return top }
        return top + Math.log(terms.reduce(0) { $0 + Math.exp($1 - top) })
    }
}
