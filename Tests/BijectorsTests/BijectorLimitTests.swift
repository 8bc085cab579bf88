import CPU
import Compiler
import Graph
import Layers
import Testing

@testable import Bijectors

/// Where maps come to an end: bounds, knots, flat places, parameters that are extreme, and settings that no map belongs to.
@Suite struct BijectorLimitTests {
    /// A bijector with given parameters at some x: z, log-determinant and what comes back.
    private func there(
        _ bijector: any Bijector, _ values: [String: [Double]], _ x: [[Double]], _ element: ElementType
    ) throws -> (z: [Double], logDeterminant: [Double], back: [Double]) {
        bijector.use(element)
        var bindings = [
            "x": HostArray(Values(shape: [x.count, x[0].count], elements: x.flatMap { $0 }), as: element).values
        ]
        for (name, parameter) in bijector.namedParameters() {
            bindings[parameter.label] = Values(shape: parameter.shape, elements: values[name]!)
        }
        let device = try CPUDevice(threads: 1)
        let input = Tensor.input("x", [.batch, Extent(x[0].count)], element)
        let forward = bijector.forward(input, Context())
        let schedule = try compile([
            forward.value, forward.logDeterminant, bijector.inverse(forward.value, Context()).value,
        ])
        var states: [String: any DeviceBuffer] = [:]
        for (name, value) in bindings where name != "x" {
            let array = HostArray(value, as: element)
            let buffer = try device.makeBuffer(byteCount: array.bytes.count)
            try array.withUnsafeBytes { try buffer.write($0) }
            states[name] = buffer
        }
        let found = try device.load(schedule, maximumBatch: x.count, states: states)
            .run(["x": .host(HostArray(bindings["x"]!, as: element))], batch: x.count)
        return (found[0].doubles, found[1].doubles, found[2].doubles)
    }

    /// A root where the function is straight is hit at once; the search stays there instead of starting anew.
    @Test func rootsStayWhereTheyAreFound() throws {
        let x = [-2.2696475982666016, -8.386547088623047]
        let found = try there(
            Sylvester(2, .triangular(reversed: false)),
            [
                "offset.free": [0.061785951256752014, -1.4641025066375732],
                "outer.free": [1.5881900787353516, -2.7175815105438232, -0.2959050238132477, 0.3081832826137543],
                "inner.free": [0.23391671478748322, -4.055962562561035, 0.9683868288993835, 2.5210864543914795],
            ], [x], .float64)
        for (a, b) in zip(found.back, x) { #expect(abs(a - b) <= 1e-13 * abs(b)) }
    }

    /// A planar flow without a direction is a shift, and one that all but folds the space has a finite log-determinant.
    @Test func planarAtTheEndsOfItsParameters() throws {
        for element in [ElementType.float32, .float64] {
            let shift = try there(
                Planar(2), ["direction.free": [0.5, 0.1], "normal.free": [0, 0], "offset.free": [0.1]],
                [[0.3, -0.2]], element)
            #expect(shift.logDeterminant == [0])
            for (a, b) in zip(shift.back, [0.3, -0.2]) { #expect(abs(a - b) < 1e-6) }
            let steep = try there(
                Planar(2), ["direction.free": [-30, 0], "normal.free": [1, 0], "offset.free": [0]],
                [[0, 0], [1e-4, 0]], element)
            #expect(abs(steep.logDeterminant[0] + 30) < 1e-4)
            #expect(abs(steep.logDeterminant[1] + 18.420671) < 1e-4)
        }
    }

    /// Diagonals that tanh rounds to +-1 leave a finite log-determinant, and the way back.
    @Test func sylvesterAtTheEndsOfItsParameters() throws {
        for element in [ElementType.float32, .float64] {
            let steep = try there(
                Sylvester(1, .triangular(reversed: false)),
                ["offset.free": [0], "outer.free": [30], "inner.free": [-30]], [[0], [1e-4], [2]], element)
            #expect(abs(steep.logDeterminant[0] + 58.613706) < 1e-4)
            #expect(abs(steep.logDeterminant[1] + 18.420681) < 1e-4)
            #expect(abs(steep.back[2] - 2) < 1e-6)
        }
    }

    /// A radial flow whose beta is -alpha pulls everything into its centre and stays finite there; far out it is the identity.
    @Test func radialAtTheEndsOfItsParameters() throws {
        let alpha = Math.log(2)
        let x = [[0, 0], [1e-6, 0], [0.3, 0.4], [1e20, -1e20]]
        for element in [ElementType.float32, .float64] {
            let found = try there(
                Radial(2), ["centre.free": [0, 0], "rawAlpha.free": [0], "rawBeta.free": [-800]], x, element)
            for row in x.indices {
                #expect(found.logDeterminant[row].isFinite, "\(found.logDeterminant[row])")
                let r = (x[row][0] * x[row][0] + x[row][1] * x[row][1]).squareRoot()
                if r > 0 {
                    let (across, along) = (r / (alpha + r), r / (alpha + r) * ((r + 2 * alpha) / (alpha + r)))
                    let expected = Math.log(across) + Math.log(along)
                    #expect(
                        abs(found.logDeterminant[row] - expected) < 1e-5 * max(1, abs(expected)), "\(element) \(row)")
                }
                for i in 0..<2 { #expect(abs(found.back[2 * row + i] - x[row][i]) <= 1e-5 * abs(x[row][i])) }
            }
        }
    }

    /// A transformer's inverse and its log-derivative at some z, with the same parameters for all.
    private func inverse(
        _ transformer: any Transformer, _ z: [Double], _ raw: [Double], _ element: ElementType
    ) throws -> (x: [Double], logDerivative: [Double], back: [Double]) {
        let input = Tensor.input("z", [.batch, 1], element)
        let parameters = raw.map { Tensor.scalar(Double(Float($0)), element).broadcast(to: input.shape) }
        let map = transformer.inverse(input, parameters)
        let found = try CPUDevice(threads: 1).load(
            compile([map.value, map.logDerivative, transformer.forward(map.value, parameters).value]),
            maximumBatch: z.count, states: [:]
        ).run(["z": .host(HostArray(Values(shape: [z.count, 1], elements: z), as: element))], batch: z.count)
        return (found[0].doubles, found[1].doubles, found[2].doubles)
    }

    /// Where the derivative at a knot is steep, the quadratic of a spline's inverse changes its sign of b within a bin; both of its
    /// formulas are needed.
    @Test func splinesInvertBesideSteepKnots() throws {
        let spline = SplineTransformer(bins: 2)
        for (d, log) in [(100.0, -2.40837), (1000, -4.7105), (10000, -7.013)] {
            let found = try inverse(spline, [-2], [0, 0, 0, 0, d], .float32)
            let exact = try inverse(spline, [-2], [0, 0, 0, 0, d], .float64)
            #expect(abs(found.x[0] - exact.x[0]) <= 1e-6 * abs(exact.x[0]), "\(d): \(found.x) for \(exact.x)")
            #expect(abs(exact.back[0] + 2) < 1e-14, "\(d): \(exact.back)")
            #expect(abs(found.logDerivative[0] - log) < 1e-3, "\(d): \(found.logDerivative) for \(log)")
        }
    }

    /// From z to x and back to z costs at most 64 units in the last place of z, times the map's condition, for splines as steep as
    /// one likes: in float32 against double.
    @Test func splinesComeBackToTheirValues() throws {
        let count = 400
        for (bins, scale) in [(2, 100.0), (2, 10000), (5, 30), (8, 10), (8, 300)] {
            let spline = SplineTransformer(bins: bins)
            for seed in UInt64(1)...20 {
                let raw = numbers(spline.parameterCount, seed: seed).enumerated().map {
                    $0.offset < 2 * bins ? $0.element * 3 : $0.element * scale
                }
                let z = numbers(count, seed: seed + 100).map { Double(Float($0 * 3)) }
                for (element, unit) in [(ElementType.float32, 0x1p-23), (.float64, 0x1p-52)] {
                    let found = try inverse(spline, z, raw, element)
                    for (i, z) in z.enumerated() {
                        // x is a number of the working type: half a unit of it moves z by the slope.
                        let condition = max(1, abs(found.x[i]) * Math.exp(-found.logDerivative[i]) / abs(z))
                        #expect(
                            abs(found.back[i] - z) <= 64 * unit * condition * abs(z),
                            "\(element), \(bins) bins, seed \(seed): \(found.back[i]) for \(z), \(abs(found.back[i] - z) / (unit * abs(z))) units, condition \(condition)"
                        )
                    }
                }
            }
        }
    }

    /// Outside of a map's domain there is no density, and nothing to learn.
    @Test func outsideOfADomainNothingIsPossible() throws {
        let cases: [(map: any Bijector, outside: [Double], inside: [Double])] = [
            (Logit(), [1.7, -0.1], [0, 0.5, 1]), (Logit(alpha: 0.05), [1.7, -0.1], [0, 0.5, 1]),
            (Inverted(Sigmoid()), [1.7, -0.1], [0, 0.5, 1]), (Inverted(Tanh()), [1.7, -1.7], [-1, 0.5, 1]),
            (Inverted(Exp()), [-1, -1e-30], [1e-30, 0.5, 7]), (Inverted(Softplus()), [-1, -1e-30], [1e-30, 0.5, 7]),
        ]
        for (map, outside, inside) in cases {
            for element in [ElementType.float32, .float64] {
                let found = try there(map, [:], (outside + inside).map { [$0] }, element)
                let (some, rest) = (found.logDeterminant.prefix(2), found.logDeterminant.dropFirst(2))
                #expect(some.allSatisfy { $0 == -.infinity }, "\(map.structure.name): \(found.logDeterminant)")
                #expect(rest.allSatisfy { $0.isFinite }, "\(map.structure.name): \(found.logDeterminant)")
                let x = Tensor.input("x", [.batch, 1], element)
                let mapped = map.forward(x, Context())
                let slope = try gradients(
                    of: (mapped.logDeterminant + mapped.value.reshaped([.batch])).sum(), with: [x])[0]
                let values = Values(shape: [2, 1], elements: outside)
                #expect(try Interpreter(batch: 2, ["x": values]).run(slope).elements == [0, 0])
            }
        }
        let nan = try there(Logit(), [:], [[.nan]], .float32)
        #expect(nan.logDeterminant[0].isNaN)
    }

    /// A rotation by half a turn has pivots below 0.
    @Test func triangularFactorsHaveSigns() throws {
        let turn = PLULinear(2, permutation: [0, 1], signs: [-1, -1])
        let found = try there(
            turn, ["lower": [0, 0, 0, 0], "upper": [0, 0, 0, 0], "logDiagonal": [0, 0]], [[1, 2]], .float32)
        #expect(found.z == [-1, -2] && found.back == [1, 2] && found.logDeterminant == [0])
        let scaled = PLULinear(2, permutation: [1, 0], signs: [-1, 1])
        let mapped = try there(
            scaled, ["lower": [0, 0, 0.5, 0], "upper": [0, 0.25, 0, 0], "logDiagonal": [Math.log(2), 0]], [[1, 2]],
            .float64)
        #expect(abs(mapped.logDeterminant[0] - Math.log(2)) < 1e-12)
        // L U = [[-2, 0.25], [-1, 1.125]], its rows exchanged.
        #expect(zip(mapped.z, [1.25, -1.5]).allSatisfy { abs($0 - $1) < 1e-12 }, "\(mapped.z)")
        #expect(zip(mapped.back, [1, 2]).allSatisfy { abs($0 - $1) < 1e-12 })
    }

    /// What a transformer makes of x, and what its inverse makes of that; parameters differ from row to row.
    private func thereAndBack(
        _ transformer: any Transformer, _ x: [Double], _ raw: [[Double]], _ element: ElementType
    ) throws -> (z: [Double], back: [Double]) {
        func array(_ values: [Double]) -> HostArray {
            HostArray(Values(shape: [x.count, 1], elements: values), as: element)
        }
        let parameters = (0..<transformer.parameterCount).map { Tensor.input("p\($0)", [.batch, 1], element) }
        let z = transformer.forward(.input("x", [.batch, 1], element), parameters).value
        let back = transformer.inverse(.input("z", [.batch, 1], element), parameters).value
        var feeds: [String: Feed] = ["x": .host(array(x))]
        for (index, _) in parameters.enumerated() { feeds["p\(index)"] = .host(array(raw.map { $0[index] })) }
        func run(_ output: Tensor) throws -> HostArray {
            let schedule = try compile([output])
            let names = Set(schedule.inputs.map { schedule.values[$0].label })
            return try CPUDevice(threads: 1).load(schedule, maximumBatch: x.count, states: [:])
                .run(feeds.filter { names.contains($0.key) }, batch: x.count)[0]
        }
        let mapped = try run(z)
        feeds["z"] = .host(mapped)
        return (mapped.doubles, try run(back).doubles)
    }

    /// On a plateau a value is taken by all arguments: the inverse says so instead of naming one of them.
    @Test func flatPlacesHaveNoInverse() throws {
        for element in [ElementType.float32, .float64] {
            let x = [-6.5, -5.01, -2, 0.5, 3, 5.01, 5.5]
            // Two steps, at -5 and 5.
            let flat = try thereAndBack(
                DeepSigmoidTransformer(units: 2), x, x.map { _ in [100, 100, 500, -500, 0, 0] }, element)
            for (a, b) in zip(flat.back, x) {
                #expect(abs(b) < 5 ? a.isNaN : abs(a - b) < 1e-4, "\(element): \(a) for \(b)")
            }
            // Any parameters: right, or no number.
            let count = 600
            let deep = DeepSigmoidTransformer(units: 3, layers: 2)
            let noise = numbers(count * deep.parameterCount, seed: 3)
            let points = numbers(count, seed: 4).map { $0 * 8 }
            let raw = (0..<count).map { row in
                (0..<deep.parameterCount).map { noise[row * deep.parameterCount + $0] * Double(1 + row % 30) }
            }
            let found = try thereAndBack(deep, points, raw, element)
            for (a, b) in zip(found.back, points) where !a.isNaN {
                #expect(abs(a - b) <= 0.1 * max(1, abs(b)), "\(element): \(a) for \(b)")
            }
            #expect(found.back.count { !$0.isNaN } > count / 2)
        }
    }

    /// The logit near 1 is as good as near 0.
    @Test func logitsNearOneKeepTheirDigits() throws {
        let x = [1 - 0x1p-20, 1 - 0x1p-12, 0.998, 0x1p-20, 1].map { Double(Float($0)) }
        let logit = Logit(alpha: 1e-6)
        let found = try there(logit, [:], [x], .float32)
        for (z, x) in zip(found.z, x) {
            let expected = Math.log((1e-6 + (1 - 2e-6) * x) / (1e-6 + (1 - 2e-6) * (1 - x)))
            #expect(abs(z - expected) < 1e-5, "\(z) for \(x)")
        }
    }

    /// A sigmoid's scale that would be 0 in the working precision leaves 0 where it is.
    @Test func scalesStayAboveZero() throws {
        for element in [ElementType.float32, .float64] {
            let x = [0.0, 0, 1]
            let raw = [[0.0, -1000], [0, -90], [0, -20]]
            for form in [AffineTransformer.Form.scaleThenShift, .shiftThenScale, .gated] {
                let found = try thereAndBack(
                    AffineTransformer(form, bound: .sigmoid(shift: 2)), x, raw, element)
                for (a, b) in zip(found.back, x) { #expect(abs(a - b) < 1e-5, "\(element), \(form): \(a)") }
            }
        }
    }

    /// A gate beside a large shift: the way there and back costs what the map's condition costs.
    @Test func gatesKeepTheirDigits() throws {
        for (element, unit) in [(ElementType.float32, 0x1p-23), (.float64, 0x1p-52)] {
            let x = numbers(200, seed: 3).map { Double(Float($0 * 4)) }
            let raw = zip(numbers(200, seed: 4), numbers(200, seed: 5)).map { [$0 * 100, $1 * 20] }
            let found = try thereAndBack(AffineTransformer(.gated, bound: .sigmoid(shift: 2)), x, raw, element)
            for (i, (a, b)) in zip(found.back, x).enumerated() {
                let scale = (1 + Math.exp(-(raw[i][1] + 2))) * abs(found.z[i]) + abs(b)
                #expect(abs(a - b) <= 64 * unit * scale, "\(element): \(a) for \(b), \(raw[i])")
            }
        }
    }

    /// The derivative of a distribution function far out in units of a narrow scale.
    @Test func narrowMixturesKeepTheirDerivatives() throws {
        let x = (0..<33).map { Double($0) / 2 - 8 }
        for transformer: any Transformer in [
            MixtureCDFTransformer(components: 2), MixtureCDFTransformer(.gaussian, components: 2),
            DeepSigmoidTransformer(units: 2),
        ] {
            let raw =
                transformer is DeepSigmoidTransformer ? [40, 90, -1, 2, 0.3, -0.4] : [0.3, -0.4, -1, 2, -4, -5]
            var found: [ElementType: [Double]] = [:]
            for element in [ElementType.float32, .float64] {
                let input = Tensor.input("x", [.batch, 1], element)
                let (_, log) = transformer.forward(
                    input, raw.map { Tensor.scalar(Double(Float($0)), element).broadcast(to: input.shape) })
                found[element] = try CPUDevice(threads: 1).load(compile([log]), maximumBatch: x.count, states: [:])
                    .run(
                        ["x": .host(HostArray(Values(shape: [x.count, 1], elements: x), as: element))], batch: x.count)[
                        0
                    ].doubles
            }
            for (a, b) in zip(found[.float32]!, found[.float64]!) {
                #expect(abs(a - b) <= 1e-5 * max(1, abs(b)), "\(transformer.name): \(a) for \(b)")
            }
        }
    }

    /// The slope at a knot, at the bound and at the ends of a range is the map's, as gradients see it too.
    @Test func gradientsHoldOnKnotsAndBounds() throws {
        let spline = SplineTransformer(bins: 8, bound: 3)
        let places = stride(from: -3.0, through: 3, by: 0.75).map { $0 }
        let x = Tensor.input("x", [.batch], .float64)
        let raw = (0..<spline.parameterCount).map { _ in Tensor.scalar(0, .float64).broadcast(to: [.batch]) }
        let interpreter = Interpreter(batch: places.count, ["x": Values(shape: [places.count], elements: places)])
        for map in [spline.forward(x, raw), spline.inverse(x, raw)] {
            let slopes = try interpreter.run(gradients(of: map.value.sum(), with: [x])[0]).elements
            let expected = try interpreter.run(map.logDerivative.exp()).elements
            for (slope, e) in zip(slopes, expected) { #expect(abs(slope - e) < 1e-12, "\(slopes) \(expected)") }
        }
        // Bins of any widths, whose sums do not end on the bound exactly.
        let count = 100
        for element in [ElementType.float32, .float64] {
            let x = Tensor.input("x", [.batch], element)
            let raw = (0..<spline.parameterCount).map { Tensor.input("raw \($0)", [.batch], element) }
            var feeds = [
                "x": Feed.host(
                    HostArray(
                        Values(shape: [2 * count], elements: (0..<2 * count).map { $0 % 2 == 0 ? -3 : 3 }), as: element)
                )
            ]
            for i in raw.indices {
                feeds["raw \(i)"] = .host(
                    HostArray(
                        Values(shape: [2 * count], elements: numbers(2 * count, seed: UInt64(i)).map { $0 * 3 }),
                        as: element))
            }
            for map in [spline.forward(x, raw), spline.inverse(x, raw)] {
                let slope = try gradients(of: map.value.sum(), with: [x])[0]
                let found = try CPUDevice(threads: 1).load(
                    compile([slope, map.logDerivative, map.value - x]), maximumBatch: 2 * count, states: [:]
                ).run(feeds, batch: 2 * count).map(\.doubles)
                let tolerance = element == .float32 ? 1e-5 : 1e-13
                #expect(found[0].allSatisfy { abs($0 - 1) < tolerance }, "\(element): \(found[0])")
                #expect(found[1].allSatisfy { abs($0) < tolerance }, "\(element): \(found[1])")
                #expect(found[2].allSatisfy { abs($0) < tolerance }, "\(element): \(found[2])")
            }
        }
        let ends = Tensor.input("x", [.batch, 1])
        let grown = Exp().forward(ends, Context())
        let given = Interpreter(batch: 2, ["x": Values(shape: [2, 1], elements: [-80, 80])])
        let (slopes, values) = try (
            given.run(gradients(of: grown.value.sum(), with: [ends])[0]).elements, given.run(grown.value).elements
        )
        for (slope, value) in zip(slopes, values) { #expect(abs(slope / value - 1) < 1e-5, "\(slopes) \(values)") }
    }

    /// Columns that cannot be made orthonormal give no number instead of a determinant that is not the Jacobian's.
    @Test func sylvesterNeedsOrthonormalColumns() throws {
        for element in [ElementType.float32, .float64] {
            let deltas: [Double] = element == .float32 ? [0, 1e-5, 1e-4, 1] : [0, 1e-8, 1e-7, 1e-6, 1e-4, 1]
            for delta in deltas {
                let bijector = Sylvester(3, .orthogonal(columns: 2))
                let parameters = bijector.namedParameters()
                bijector.use(element)
                let x = Tensor.input("x", [.batch, 3], element)
                let mapped = bijector.forward(x, Context())
                let rows = try (0..<3).map { i in
                    try gradients(of: mapped.value.sliced(axis: 1, from: i, count: 1).sum(), with: [x])[0]
                        .reshaped([.batch, 1, 3])
                }
                let jacobian = Tensor.concatenate(rows, axis: 1).logAbsoluteDeterminant()
                let device = try CPUDevice(threads: 1)
                var states: [String: any DeviceBuffer] = [:]
                for (name, parameter) in parameters {
                    let values = (0..<parameter.shape[0]).map { 0.7 + 0.3 * Double($0) }
                    let basis = [1, 1 + delta, 2, 2, -1, -1]
                    let array = HostArray(
                        Values(shape: parameter.shape, elements: name.hasPrefix("basis") ? basis : values), as: element)
                    let buffer = try device.makeBuffer(byteCount: array.bytes.count)
                    try array.withUnsafeBytes { try buffer.write($0) }
                    states[parameter.label] = buffer
                }
                let point = HostArray(Values(shape: [1, 3], elements: [0.1, -0.05, 0.02]), as: element)
                let found = try device.load(
                    compile([
                        mapped.logDeterminant, jacobian, mapped.value,
                        bijector.inverse(Tensor.input("z", [.batch, 3], element), Context()).value,
                    ]), maximumBatch: 1, states: states
                ).run(["x": .host(point), "z": .host(point)], batch: 1).map(\.doubles)
                let tolerance = element == .float32 ? 1e-4 : 1e-10
                let isRight = abs(found[0][0] - found[1][0]) <= tolerance
                let isNone = found[0][0].isNaN && found[2][0].isNaN && found[3][0].isNaN
                #expect(isRight || isNone, "\(element), \(delta): \(found)")
                #expect(delta != 1 || isRight, "\(element): \(found)")
            }
        }
    }

    /// A vector of zeros has no direction to reflect along: nothing is reflected.
    @Test func reflectionsOfNothing() throws {
        for element in [ElementType.float32, .float64] {
            for length in [0, 1e-200, 1e-22, 1e-19] {
                let x: [Double] = [1, 2, 3]
                let found = try there(
                    Householder(3, reflections: 1), ["vectors.0.free": [length, length * 1.2, 0]], [x], element)
                #expect(found.logDeterminant == [0])
                for (a, b) in zip(found.back, x) { #expect(abs(a - b) < 1e-5, "\(element), \(length): \(found)") }
                let norm: Double = zip(found.z, found.z).reduce(0) { $0 + $1.0 * $1.1 }
                #expect(abs(norm - 14) < 1e-4, "\(element), \(length): \(found)")
                if length == 0 { #expect(found.z == x) }
            }
        }
    }

    /// Settings that no map belongs to.
    @Test func impossibleSettingsAreRefused() async {
        await #expect(processExitsWith: .failure) { _ = Sylvester(3, .orthogonal(columns: 5)) }
        await #expect(processExitsWith: .failure) { _ = Sylvester(3, .orthogonal(columns: 0)) }
        await #expect(processExitsWith: .failure) { _ = SplineTransformer(bins: 8, leastBin: 0.2) }
        await #expect(processExitsWith: .failure) { _ = SplineTransformer(bins: 8, leastBin: -1e-3) }
        await #expect(processExitsWith: .failure) { _ = SplineTransformer(bins: 0) }
        await #expect(processExitsWith: .failure) { _ = SplineTransformer(leastDerivative: -0.5) }
        await #expect(processExitsWith: .failure) { _ = PLULinear(2, signs: [1, 0]) }
        await #expect(processExitsWith: .failure) { _ = MixtureCDFTransformer(components: 0) }
        await #expect(processExitsWith: .failure) { _ = DeepSigmoidTransformer(layers: 0) }
        await #expect(processExitsWith: .failure) { _ = DeepSigmoidTransformer(units: 0) }
        // A release build says why.
        let stopped = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = SplineTransformer(leastDerivative: -0.5)
        }
        let text = stopped.map { String(decoding: $0.standardErrorContent, as: UTF8.self) } ?? ""
        #expect(text.contains("found -0.5"), "\(text)")
    }
}
