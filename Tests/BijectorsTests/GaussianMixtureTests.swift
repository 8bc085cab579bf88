import Distributions
import Graph
import Testing

/// Mixtures by expectation and maximisation of data that are hard to fit.
@Suite struct GaussianMixtureTests {
    /// Rows `[count, columns]` made of two columns of numbers.
    private func rows(_ count: Int, _ columns: (Double, Double, Double) -> [Double]) -> HostArray {
        // Sums of uniforms, near enough to normals.
        let x = numbers(12 * count, seed: 9)
        let normal = (0..<3 * count).map { i in (0..<4).reduce(0.0) { $0 + x[4 * i + $1] } }
        let made = (0..<count).map { columns(normal[3 * $0], normal[3 * $0 + 1], normal[3 * $0 + 2]) }
        return HostArray(made.flatMap(\.self), shape: [count, made[0].count])
    }

    /// A fit whose parameters are what they are said to be.
    @discardableResult
    private func fit(
        _ name: String, _ data: HostArray, _ components: Int, rounds: Int = 100, tolerance: Double = 1e-7,
        ridge: Double = 1e-6
    ) throws -> GaussianMixture {
        let mixture = try GaussianMixture(
            fitting: data, components: components, rounds: rounds, tolerance: tolerance, ridge: ridge)
        let parameters = mixture.logWeights + mixture.means.joined() + mixture.factors.joined()
        let areFinite = (parameters + mixture.history).allSatisfy(\.isFinite)
        #expect(areFinite, "\(name): \(parameters), \(mixture.history)")
        let total: Double = mixture.logWeights.reduce(0) { $0 + Math.exp($1) }
        #expect(abs(total - 1) < 1e-12, "\(name): weights of \(total)")
        for (a, b) in zip(mixture.history, mixture.history.dropFirst()) { #expect(b >= a, "\(name): \(a) to \(b)") }
        let logs = try mixture.logProbability(data)
        let mean: Double = logs.reduce(0) { $0 + $1 } / Double(logs.count)
        let last = try #require(mixture.history.last)
        #expect(abs(mean - last) < 1e-6 * max(1, abs(last)), "\(name): \(mean) and \(last)")
        return mixture
    }

    /// Columns that depend on each other, at any scale: the fit is the same, in other units.
    @Test(arguments: [1e-300, 1e-6, 1e4, 3e4, 1e5, 1e200, 1e306])
    func fitsOfAnyScale(_ scale: Double) throws {
        let three = { (s: Double) in rows(300) { a, b, _ in [a * s, b * s, (a + b) * s] } }
        let four = { (s: Double) in rows(300) { a, b, c in [a * s, c * s, b * s, (a + b) * s] } }
        for (data, width) in [(three, 3.0), (four, 4.0)] {
            let (one, other) = (try fit("1", data(1), 3), try fit("\(scale)", data(scale), 3))
            let moved = try #require(other.history.last) + width * Math.log(scale)
            let last = try #require(one.history.last)
            #expect(abs(moved - last) < 1e-4, "\(scale): \(moved) and \(last)")
            #expect(abs(other.means[0][0] / scale - one.means[0][0]) < 1e-3)
        }
    }

    /// Outliers of any size, columns that do not vary, fewer different rows than components.
    @Test func fitsOfDegenerateData() throws {
        for outlier in [1e8, 1e160, 1.7e308] {
            let data = rows(100) { a, b, _ in [a, b] }.doubles
            try fit("outlier \(outlier)", HostArray(data + [outlier, -outlier], shape: [101, 2]), 3)
            let ends = data + [outlier, -outlier, -outlier, outlier]
            try fit("outliers of \(outlier)", HostArray(ends, shape: [102, 2]), 3)
        }
        // 0.1, whose sum is rounded, is no column that varies.
        let flat = try fit("constant column", rows(300) { a, _, _ in [a, 0.1] }, 2)
        let line = try fit("without it", rows(300) { a, _, _ in [a] }, 2)
        let density: Double = -halfLogTwoPi - 0.5 * Math.log(1e-6)
        let (a, b) = (try #require(flat.history.last), try #require(line.history.last))
        #expect(abs(a - b - density) < 1e-6, "\(a), \(b) and \(density)")
        for mean in flat.means { #expect(mean[1] == 0.1) }
        try fit("equal rows", rows(50) { _, _, _ in [0.1, 0.1] }, 3)
        try fit("a component for each row", rows(8) { a, b, _ in [a, b] }, 8)
        try fit("few different rows", rows(300) { a, b, _ in [a.rounded(), b.rounded()] }, 12)
        try fit("no ridge", rows(300) { a, b, _ in [a, b] }, 2, ridge: 0)
        // A ridge this large costs likelihood after a few rounds.
        try fit("a large ridge", rows(300) { a, b, _ in [a, a > 0 ? b * 0.01 : b] }, 3, ridge: 0.1)
    }

    /// A component that others do better than is left out once no row is its own.
    @Test func componentsMayBeLost() throws {
        let data = rows(100) { a, b, _ in [a.rounded(), b.rounded()] }
        let mixture = try fit("lost", data, 12, rounds: 1000, tolerance: 0, ridge: 0.01)
        #expect(mixture.logWeights.count < 12 && mixture.logWeights.count > 1, "\(mixture.logWeights)")
        #expect(mixture.means.count == mixture.logWeights.count && mixture.factors.count == mixture.logWeights.count)
    }

    /// Without a ridge such data have no likeliest mixture, and no normal with a density.
    @Test func fitsThatNoNormalHasAreRefused() throws {
        let cases: [(String, HostArray, Int)] = [
            ("all rows", rows(50) { _, _, _ in [0.1, 0.1] }, 3),
            ("all rows", rows(300) { a, b, _ in [a * 1e5, b * 1e5, (a + b) * 1e5] }, 3),
            ("component", rows(8) { a, b, _ in [a, b] }, 8),
            ("component", rows(8) { a, _, _ in [a] }, 8),
        ]
        for (owner, data, components) in cases {
            let error = #expect(throws: GraphError.self) {
                try GaussianMixture(fitting: data, components: components, ridge: 0)
            }
            let text = error?.description ?? ""
            #expect(text.contains("found that of \(owner)") && text.contains("larger ridge"), "\(text)")
        }
        // Deviations that are no numbers of double precision once they are in the units of the data.
        let error = #expect(throws: GraphError.self) {
            try GaussianMixture(fitting: rows(50) { a, _, _ in [a * 20 * .leastNonzeroMagnitude] }, components: 1)
        }
        #expect(error?.description.contains("component 0") == true, "\(String(describing: error))")
    }

    @Test func fitsOfImpossibleSettingsAreRefused() throws {
        let data = rows(20) { a, b, _ in [a, b] }
        let cases: [(text: String, data: HostArray, components: Int, rounds: Int, ridge: Double)] = [
            ("at least 1 component, found -3", data, -3, 10, 0), ("at least 1 component, found 0", data, 0, 10, 0),
            ("at least 21 rows", data, 21, 10, 0), ("found [40]", data.reshaped([40]), 2, 10, 0),
            ("found [20, 0]", HostArray([Double](), shape: [20, 0]), 2, 10, 0),
            ("rounds, found -1", data, 2, -1, 0), ("ridge of at least 0, found -1.0", data, 2, 10, -1),
            ("found nan", data, 2, 10, .nan), ("found inf", data, 2, 10, .infinity),
            ("found nan in row 1, column 0", HostArray([0, 1, Double.nan, 2], shape: [2, 2]), 1, 10, 0),
        ]
        for (text, data, components, rounds, ridge) in cases {
            let error = #expect(throws: GraphError.self, "\(text)") {
                try GaussianMixture(fitting: data, components: components, rounds: rounds, ridge: ridge)
            }
            #expect(error?.description.contains(text) == true, "\(text): \(String(describing: error))")
        }
    }

    /// Rows of another width are refused; rows that are no numbers have no density, those out of reach none but zero.
    @Test func densitiesOfOtherRows() throws {
        let mixture = try GaussianMixture(fitting: rows(20) { a, b, _ in [a, b + a] }, components: 2)
        for shape in [[2, 3], [3, 1], [4], [1, 2, 2]] {
            let error = #expect(throws: GraphError.self, "\(shape)") {
                try mixture.logProbability(HostArray(type: .float64, shape: shape))
            }
            let text = error?.description ?? ""
            #expect(text.contains("[rows, 2], found \(shape)"), "\(text)")
        }
        let far: [Double] = [.infinity, 0, 0, -.infinity, 1e300, 1e300, .nan, 0, .infinity, .nan, 0, 0]
        let found = try mixture.logProbability(HostArray(far, shape: [6, 2]))
        #expect(found[0] == -.infinity && found[1] == -.infinity && found[2] == -.infinity, "\(found)")
        #expect(found[3].isNaN && found[4].isNaN && found[5].isFinite, "\(found)")
    }
}
