import Bijectors
import CPU
import Compiler
import Graph
import Layers
import Models
import Testing

@testable import Distributions

#if canImport(Glibc)
    import Glibc
#endif

/// Student's t, and bases that are products.
@Suite struct TailTests {
    private let device: CPUDevice

    init() throws { device = try CPUDevice(threads: 2) }

    /// log p in double precision on the host.
    private func studentT(_ x: Double, _ degrees: Double) -> Double {
        lgamma((degrees + 1) / 2) - lgamma(degrees / 2) - Math.log(degrees * Double.pi) / 2
            - (degrees + 1) / 2 * Math.log1p(x * x / degrees)
    }

    private func run(
        _ outputs: [Tensor], _ x: [Double], width: Int = 1, _ element: ElementType = .float32,
        states: [String: any DeviceBuffer] = [:]
    ) throws -> [[Double]] {
        let batch = x.count / width
        let array = HostArray(Values(shape: [batch, width], elements: x), as: element)
        return try device.load(compile(outputs), maximumBatch: batch, states: states)
            .run(["x": .host(array)], batch: batch).map(\.doubles)
    }

    /// Against the closed forms of 1 and 2 degrees of freedom, the gamma function of the C library for others, and the normal for many.
    @Test func densities() throws {
        let places = [0, 0.001, -0.4, 1, -1.5, 3, 20, -1000]
        for (element, unit) in [(ElementType.float32, 2e-6), (.float64, 1e-12)] {
            let x = Tensor.input("x", [.batch, 1], element)
            for degrees in [0.2, 0.5, 0.7, 1, 1.5, 2, 2.5, 3, 5, 7.3, 15, 16, 17, 30, 100, 1000] {
                let found = try run([StudentT(degrees: degrees).logProbability(x)], places, element)[0]
                for (a, x) in zip(found, places) {
                    let expected: Double =
                        switch degrees {
                        case 1: -Math.log(Double.pi) - Math.log1p(x * x)
                        case 2: -1.5 * Math.log1p(x * x / 2) - 1.5 * Math.log(2)
                        default: studentT(x, degrees)
                        }
                    // The C library's own difference of large logarithms.
                    #expect(
                        abs(a - expected) <= unit * max(1, abs(expected), degrees / 10),
                        "\(element), \(degrees): \(a) for \(expected) at \(x)")
                }
            }
            let many = try run([StudentT(degrees: 1e6).logProbability(x)], [0, 1, -3], element)[0]
            for (a, x) in zip(many, [0.0, 1, -3]) {
                #expect(abs(a + x * x / 2 + halfLogTwoPi) < 3e-5, "\(element): \(a) at \(x)")
            }
        }
    }

    /// Where the square of x is no number any more the density and its slope are still theirs.
    @Test func farOut() throws {
        let x = Tensor.input("x", [.batch, 1])
        let log = StudentT(degrees: 3).logProbability(x)
        let found = try run([log, gradients(of: log.sum(), with: [x])[0]], [1e30, -1e20, 1e-30, 0, .infinity, .nan])
        for (i, x) in [1e30, -1e20].enumerated() {
            #expect(abs(found[0][i] - studentT(x, 3)) < 1e-4, "\(found[0][i])")
            #expect(abs(found[1][i] * x + 4) < 1e-4, "\(found[1][i])")
        }
        #expect(found[1][2...3].allSatisfy { abs($0) < 1e-25 } && abs(found[0][3] - studentT(0, 3)) < 1e-6)
        #expect(found[0][4] == -.infinity && found[0][5].isNaN)
    }

    /// Draws fall below known quantiles as often as they have to (Abramowitz and Stegun 1964, table 26.10, and the C library's density,
    /// integrated, where no table goes).
    @Test func draws() throws {
        let count = 200_000
        let tables: [(degrees: Double, quantiles: [(share: Double, x: Double)])] = [
            (1, [(0.75, 1), (0.9, 3.077684), (0.975, 12.7062), (0.999, 318.3088)]),
            (2, [(0.75, 0.816497), (0.975, 4.302653), (0.999, 22.32712)]),
            (5, [(0.75, 0.726687), (0.975, 2.570582), (0.999, 5.893430)]),
            (30, [(0.75, 0.682756), (0.975, 2.042272), (0.999, 3.385185)]),
            (0.7, [(share(below: 0.5, 0.7), 0.5), (share(below: 6, 0.7), 6)]),
            (2.5, [(share(below: 0.5, 2.5), 0.5), (share(below: 4, 2.5), 4)]),
        ]
        for (degrees, quantiles) in tables {
            let x = StudentT(degrees: degrees).sample([.batch, 1], RandomSource())
            let found = try device.load(compile([x]), maximumBatch: count, states: [:]).run(
                RandomSource.feeds(seed: 7, examples: Array(0..<count)).mapValues { .host($0) }, batch: count)[0]
                .doubles
            let areFinite = found.allSatisfy { $0.isFinite }
            #expect(areFinite)
            let mirrored: [(share: Double, x: Double)] = quantiles.map { (1 - $0.share, -$0.x) }
            for (share, x) in quantiles + mirrored + [(share: 0.5, x: 0)] {
                let below = Double(found.count { $0 < x }) / Double(count)
                let deviation = (share * (1 - share) / Double(count)).squareRoot()
                #expect(abs(below - share) < 4 * deviation, "\(degrees): \(below) for \(share)")
            }
        }
    }

    /// By Simpson's rule.
    private func share(below x: Double, _ degrees: Double) -> Double {
        let (count, width) = (2000, x / 2000)
        let sum: Double = (0...count).reduce(0.0) { sum, i in
            let weight: Double = i == 0 || i == count ? 1 : i % 2 == 1 ? 4 : 2
            return sum + weight * Math.exp(studentT(Double(i) * width, degrees))
        }
        return 0.5 + sum * width / 3
    }

    /// Few degrees of freedom and the extreme words of a generator: still finite numbers, the same for any batch.
    @Test func drawsAreFinite() throws {
        let count = 300_000
        for degrees in [0.2, 1e6] {
            let x = StudentT(degrees: degrees).sample([.batch, 1], RandomSource())
            let program = try device.load(compile([x]), maximumBatch: count, states: [:])
            func draw(_ examples: Range<Int>) throws -> [Float] {
                try program.run(
                    RandomSource.feeds(seed: 3, examples: Array(examples)).mapValues { .host($0) },
                    batch: examples.count)[0].floats
            }
            let all = try draw(0..<count)
            let areFinite = all.allSatisfy { $0.isFinite }
            #expect(areFinite)
            #expect(try draw(1000..<1010) == Array(all[1000..<1010]))
        }
    }

    /// Draws and their densities, OpenCL against the CPU.
    @Test func devicesAgree() throws {
        let x = product(of: StudentT(degrees: 2.5)).sample([.batch, 3], RandomSource())
        let schedule = try compile([x, product(of: StudentT(degrees: 2.5)).logProbability(x)])
        let feeds = RandomSource.feeds(seed: 9, examples: Array(0..<500)).mapValues { Feed.host($0) }
        let results = try devices().map {
            try $0.load(schedule, maximumBatch: 500, states: [:]).run(feeds, batch: 500).map(\.floats)
        }
        for result in results.dropFirst() {
            for (a, b) in zip(results[0].joined(), result.joined()) {
                #expect(abs(a - b) <= 2e-5 * max(1, abs(a)), "\(a) and \(b)")
            }
        }
    }

    private func product(of student: StudentT) -> ProductDistribution {
        ProductDistribution([(student, 2), (CircularUniform(), 1)])
    }

    /// The degrees of freedom of each variable as parameters, and their gradients against differences.
    @Test func trainedDegrees() throws {
        let student = StudentT([3], degrees: 2)
        student.use(.float64)
        let parameter = try #require(student.logDegrees)
        let x = Tensor.input("x", [.batch, 3], .float64)
        let loss = student.logProbability(x).sum()
        let rows = Values(shape: [2, 3], elements: [0.3, -2, 7, 1e3, 0, -0.5])
        func bound(_ logs: [Double]) -> Interpreter {
            Interpreter(batch: 2, ["x": rows, parameter.label: Values(shape: [3], elements: logs)])
        }
        let logs = [0.7, -1.2, 3.5]
        let expected: Double = (0..<6).reduce(0.0) { $0 + studentT(rows.elements[$1], Math.exp(logs[$1 % 3])) }
        #expect(abs(try bound(logs).run(loss).elements[0] - expected) < 1e-11)
        let slopes = try bound(logs).run(gradients(of: loss, with: [parameter.tensor])[0]).elements
        for i in 0..<3 {
            let sides = try [1e-5, -1e-5].map { step in
                var moved = logs
                moved[i] += step
                return try bound(moved).run(loss).elements[0]
            }
            #expect(abs((sides[0] - sides[1]) / 2e-5 - slopes[i]) < 1e-8, "\(i): \(slopes[i])")
        }
        #expect(throws: GraphError.self) { try compile([student.logProbability(.input("x", [.batch, 1], .float64))]) }
        #expect(throws: GraphError.self) { try compile([student.sample([.batch, 1], RandomSource())]) }
    }

    // MARK: products

    private var product: ProductDistribution {
        ProductDistribution([
            (DiagonalNormal(), 2), (CircularUniform(low: -1, period: 2), 1), (StudentT(degrees: 1), 1),
            (DiagonalNormal([1]), 1),
        ])
    }

    @Test func productsAddUp() throws {
        let x = Tensor.input("x", [.batch, 5])
        let rows: [Double] = [0.3, -1, 0.5, 2, 0, 0, 0, 41, 0, 1]
        let product = self.product
        #expect(product.namedParameters().map(\.name) == ["components.3.mean", "components.3.logDeviation"])
        var states: [String: any DeviceBuffer] = [:]
        for parameter in product.parameters {
            let buffer = try device.makeBuffer(byteCount: 4)
            try [Float(0)].withUnsafeBytes { try buffer.write($0) }
            states[parameter.label] = buffer
        }
        let found = try run([product.logProbability(x)], rows, width: 5, states: states)[0]
        for (row, a) in found.enumerated() {
            let own = Array(rows[5 * row..<5 * row + 5])
            let squares = own[0] * own[0] + own[1] * own[1] + own[4] * own[4]
            let expected: Double = -squares / 2 - 3 * halfLogTwoPi - Math.log(2) + studentT(own[3], 1)
            #expect(abs(a - expected) < 1e-5, "\(a) for \(expected)")
        }
        // Outside of its numbers a circle has points too; what is no number is none.
        let circle = try run(
            [CircularUniform().logProbability(.input("x", [.batch, 1]))], [-40, 0, 7, .nan, .infinity])
        #expect(
            circle[0][..<3].allSatisfy { abs($0 + Math.log(2 * .pi)) < 1e-6 } && circle[0][3...].allSatisfy { $0.isNaN }
        )
    }

    /// Columns are drawn from their own distributions, by numbers that know nothing of one another.
    @Test func productsAreDrawnByColumn() throws {
        let count = 20_000
        let normals = ProductDistribution([
            (DiagonalNormal(), 1), (DiagonalNormal(), 1), (CircularUniform(low: 3, period: 2), 1),
        ])
        let x = normals.sample([.batch, 3], RandomSource())
        let found = try device.load(compile([x]), maximumBatch: count, states: [:]).run(
            RandomSource.feeds(seed: 5, examples: Array(0..<count)).mapValues { .host($0) }, batch: count)[0].doubles
        let columns: [[Double]] = (0..<3).map { c in (0..<count).map { found[3 * $0 + c] } }
        let means: [Double] = columns.map { column in column.reduce(0.0) { $0 + $1 } / Double(count) }
        #expect(abs(means[0]) < 0.03 && abs(means[1]) < 0.03 && abs(means[2] - 4) < 0.02)
        #expect(columns[2].allSatisfy { $0 >= 3 && $0 < 5 })
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let product: Double = (0..<count).reduce(0.0) {
                $0 + (columns[a][$1] - means[a]) * (columns[b][$1] - means[b])
            }
            #expect(abs(product / Double(count)) < 0.03, "\(a) and \(b): \(product / Double(count))")
        }
        let entropy = try #require(normals.entropy([3]))
        #expect(abs(try Interpreter().run(entropy).elements[0] - (2 * halfLogTwoPi + 1 + Math.log(2))) < 1e-6)
    }

    @Test func productsFitTheirExamples() throws {
        for width in [4, 6] {
            let shape: Shape = [.batch, Extent(width)]
            #expect(throws: GraphError.self) { try compile([product.logProbability(.input("x", shape))]) }
            #expect(throws: GraphError.self) { try compile([product.sample(shape, RandomSource())]) }
        }
        #expect(throws: GraphError.self) {
            try compile([try #require(ProductDistribution([(DiagonalNormal(), 2)]).entropy([3]))])
        }
    }

    @Test func impossibleSettingsAreRefused() async {
        await #expect(processExitsWith: .failure) { _ = StudentT(degrees: 0) }
        await #expect(processExitsWith: .failure) { _ = StudentT([2], degrees: .infinity) }
        await #expect(processExitsWith: .failure) { _ = ProductDistribution([]) }
        await #expect(processExitsWith: .failure) { _ = ProductDistribution([(DiagonalNormal(), 0)]) }
        await #expect(processExitsWith: .failure) { _ = CircularUniform(period: 0) }
    }
}
