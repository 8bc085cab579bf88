import Testing

@testable import Training

/// The search along a line, on functions of which the steps that meet the conditions are known.
@Suite struct LineSearchTests {
    struct Curve: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let value: @Sendable (Double) -> Double
        let slope: @Sendable (Double) -> Double

        init(
            _ name: String, _ value: @escaping @Sendable (Double) -> Double,
            _ slope: @escaping @Sendable (Double) -> Double
        ) { (testDescription, self.value, self.slope) = (name, value, slope) }

        func point(_ step: Double) -> LinePoint { LinePoint(step: step, value: value(step), slope: slope(step)) }
    }

    /// The first two of Moré and Thuente (1994), section 5, and two of ours.
    static let curves = [
        Curve("rational", { -$0 / ($0 * $0 + 2) }, { ($0 * $0 - 2) / (($0 * $0 + 2) * ($0 * $0 + 2)) }),
        Curve(
            "quintic",
            { a in
                let b = a + 0.004
                return b * b * b * b * b - 2 * b * b * b * b
            },
            { a in
                let b = a + 0.004
                return 5 * b * b * b * b - 8 * b * b * b
            }),
        Curve("parabola", { ($0 - 3) * ($0 - 3) }, { 2 * ($0 - 3) }),
        // No number beyond a wall, as a likelihood that overflows.
        Curve("wall", { $0 < 2 ? -$0 - 0.1 / ($0 - 2) : .nan }, { $0 < 2 ? -1 + 0.1 / (($0 - 2) * ($0 - 2)) : .nan }),
    ]

    @Test(arguments: curves, [1e-3, 0.1, 1, 10, 1e3]) func theConditionsHold(_ curve: Curve, first: Double) throws {
        let (start, search) = (curve.point(0), LineSearch(curvature: 0.5))
        var evaluations = 0
        let found = try #require(
            search.search(from: start, first: first) {
                evaluations += 1
                return curve.point($0)
            })
        #expect(found.value <= start.value + search.decrease * found.step * start.slope)
        #expect(abs(found.slope) <= search.curvature * abs(start.slope))
        #expect(found.value == curve.value(found.step) && evaluations <= search.most)
    }

    /// A first step that is good enough is taken without another look.
    @Test func aGoodFirstStepIsTaken() throws {
        var steps: [Double] = []
        let curve = Self.curves[2]
        _ = LineSearch().search(from: curve.point(0), first: 2.5) {
            steps.append($0)
            return curve.point($0)
        }
        #expect(steps == [2.5])
    }

    /// Values of float32 around 80 say nothing of a parabola of the height of a millionth; its slopes do.
    @Test func slopesDecideWhereValuesAreRounded() throws {
        func point(_ a: Double) -> LinePoint {
            LinePoint(step: a, value: Double(Float(80 + 1e-6 * (a - 1) * (a - 1))), slope: 2e-6 * (a - 1))
        }
        for first in [0.01, 1.5, 30] {
            let found = try #require(
                LineSearch(curvature: 0.1, noise: 8e-5).search(from: point(0), first: first, point))
            #expect(abs(found.step - 1) <= 0.1, "\(first): \(found)")
        }
    }

    /// A line along which nothing falls has no step.
    @Test func noStepIsFoundWhereThereIsNone() {
        let found = LineSearch().search(from: LinePoint(step: 0, value: 0, slope: -1), first: 1) { step in
            LinePoint(step: step, value: step, slope: 1)
        }
        #expect(found == nil)
    }
}
