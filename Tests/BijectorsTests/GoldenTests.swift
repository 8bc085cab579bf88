import CPU
import Compiler
import Datasets
import Distributions
import FoundationEssentials
import Graph
import Layers
import Testing

@testable import Bijectors

/// Our bijectors with the weights of zuko's, nflows' and normflows' (`Scripts/make-flow-goldens.py`).
@Suite struct GoldenTests {
    static let arrays: [String: HostArray] = {
        let folder = #filePath.split(separator: "/").dropLast().joined(separator: "/")
        return (try? SafeTensors.read("/\(folder)/Goldens/flows.safetensors").0) ?? [:]
    }()

    /// What the libraries computed against what the CPU computes, in double precision to 1e-9 and in float32 to 1e-6.
    private func check(_ name: String, base: (any Distribution)? = nil, _ make: () -> any Bijector) throws {
        for element in [ElementType.float64, .float32] {
            let bijector = make()
            bijector.use(element)
            let device = try CPUDevice(threads: 2)
            var states: [String: any DeviceBuffer] = [:]
            for (path, parameter) in bijector.namedParameters() {
                let given = try #require(Self.arrays["\(name)/\(path)"], "\(name) has no \(path)")
                #expect(given.shape == parameter.shape, "\(name)/\(path)")
                let array = HostArray(Values(shape: given.shape, elements: given.doubles), as: element)
                let buffer = try device.makeBuffer(byteCount: array.bytes.count)
                try array.withUnsafeBytes { try buffer.write($0) }
                states[parameter.label] = buffer
            }
            let data = try #require(Self.arrays["\(name)/x"])
            let x = Tensor.input("x", Shape([.batch] + data.shape.dropFirst().map { Extent($0) }), element)
            let z = bijector.forward(x, Context())
            let logProbability = base.map { $0.logProbability(z.value) + z.logDeterminant } ?? z.logDeterminant
            let program = try device.load(
                compile([z.value, logProbability]), maximumBatch: data.shape[0], states: states)
            let feed = HostArray(Values(shape: data.shape, elements: data.doubles), as: element)
            let found = try program.run(["x": .host(feed)], batch: data.shape[0])
            try compare(name, element, z: found[0], logProbability: found[1], isWhole: base != nil)
        }
    }

    /// - Parameter isWhole: whether `logProbability` includes the base; else a standard normal's is added on both sides, so
    ///   that what is compared is a log-probability.
    private func compare(
        _ name: String, _ element: ElementType, z: HostArray, logProbability: HostArray, isWhole: Bool
    ) throws {
        func base(_ z: [Double], _ row: Int, _ width: Int) -> Double {
            (0..<width).reduce(0) { $0 - 0.5 * z[row * width + $1] * z[row * width + $1] - halfLogTwoPi }
        }
        var (found, expected) = (logProbability.doubles, [Double]())
        if isWhole {
            expected = try #require(Self.arrays["\(name)/logProbability"]).doubles
        } else {
            expected = try #require(Self.arrays["\(name)/logDeterminant"]).doubles
            let theirs = try #require(Self.arrays["\(name)/z"]).doubles
            let width = theirs.count / expected.count
            for row in expected.indices {
                found[row] += base(z.doubles, row, width)
                expected[row] += base(theirs, row, width)
            }
            if element == .float64 {
                for (a, b) in zip(z.doubles, theirs) { #expect(abs(a - b) <= 1e-9 * max(1, abs(b)), "\(name)") }
            }
        }
        let tolerance = element == .float64 ? 1e-9 : 1e-6
        for (a, b) in zip(found, expected) {
            #expect(abs(a - b) <= tolerance * max(1, abs(b)), "\(name), \(element): \(a) against \(b)")
        }
    }

    private func bits(_ name: String) throws -> BitMatrix {
        let array = try #require(Self.arrays[name])
        let values = array.doubles
        return BitMatrix(rows: array.shape[0], columns: array.shape[1]) { values[$0 * array.shape[1] + $1] != 0 }
    }

    private let zukoAffine = AffineTransformer(.scaleThenShift, bound: .softClip(limit: 6.907755278982137))

    @Test func maf() throws {
        let parts = try (0..<3).map { i in
            (
                order: try #require(Self.arrays["maf/order.\(i)"]).doubles.map { Int32($0) },
                masks: try (0..<3).map { try bits("maf/mask.\(i).\($0)") }
            )
        }
        let make = {
            Chain(
                parts.map {
                    Autoregressive(
                        Order(index: $0.order), zukoAffine, conditioner: MaskedMLP(masks: $0.masks))
                })
        }
        try make().proveStructure([.batch, 5])
        try check("maf", base: DiagonalNormal(), make)
    }

    @Test func realNVP() throws {
        let kept = try (0..<4).map { try #require(Self.arrays["realnvp/kept.\($0)"]).doubles.map { $0 != 0 } }
        try check("realnvp", base: DiagonalNormal()) {
            Chain(
                kept.map {
                    Coupling(
                        .mask($0), zukoAffine,
                        conditioner: MaskedMLP.coupling(kept: $0, hidden: [8, 7], parameters: 2))
                })
        }
    }

    @Test func nice() throws {
        try check("nice", base: Logistic()) {
            Chain(
                (0..<4).map { i -> any Bijector in
                    let partition = Partition.alternating(keepsOdd: i % 2 == 1)
                    return Coupling(
                        partition, AdditiveTransformer(),
                        conditioner: MaskedMLP.coupling(kept: partition.kept([5]), hidden: [7], parameters: 1))
                } + [ElementwiseAffine([5])])
        }
    }

    @Test func classics() throws {
        try check("planar") { Planar(5) }
        try check("radial") { Radial(5) }
        try check("householder") { Householder(5, reflections: 3) }
    }

    @Test func glowStep() throws {
        try check("glow") {
            Chain([
                ActNorm(4), DenseLinear(4),
                Coupling(
                    .half(keepsSecond: false), AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2)),
                    conditioner: ConvolutionNetwork(channels: [2, 6, 6, 4], kernels: [3, 1, 3])),
            ])
        }
    }

    @Test func spline() throws {
        let arrays = Self.arrays
        let (x, p) = (try #require(arrays["spline/x"]), try #require(arrays["spline/parameters"]))
        for element in [ElementType.float64, .float32] {
            let given = Tensor.input("p", [.batch, Extent(p.shape[1])], element)
            let spline = SplineTransformer(bins: 6, bound: 3)
            let variables = Tensor.input("x", [.batch, 5], element)
            let (z, log) = spline.forward(variables, given.blocks(spline.parameterCount, for: variables))
            let program = try CPUDevice(threads: 2).load(
                compile([z, log.sum(axes: [1])]), maximumBatch: 40, states: [:])
            let feed = { (a: HostArray) in
                Feed.host(HostArray(Values(shape: a.shape, elements: a.doubles), as: element))
            }
            let found = try program.run(["x": feed(x), "p": feed(p)], batch: 40)
            try compare("spline", element, z: found[0], logProbability: found[1], isWhole: false)
        }
    }
}
