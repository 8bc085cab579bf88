import Testing

@testable import Graph

/// Deterministic numbers in (-1, 1) that no symmetry of an operation hides behind.
func numbers(_ count: Int, seed: UInt64 = 1) -> [Double] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Double(Int64(bitPattern: state) >> 11) * 0x1p-52
    }
}

struct GradientCase: CustomTestStringConvertible, Sendable {
    let name: String
    let shapes: [Shape]
    var offset = 0.0
    let build: @Sendable ([Tensor]) -> Tensor
    var testDescription: String { name }
}

/// tanh(a b), whose gradient nobody could find in how it is computed.
private func givenProduct(_ a: Tensor, _ b: Tensor) -> Tensor {
    (a.stoppingGradient() * b.stoppingGradient()).tanh().withGradient(by: [a, b]) { y, g in
        let slope = (1 - y * y) * g
        return [slope * b, slope * a]
    }
}

private let cases: [GradientCase] = {
    var list: [GradientCase] = []
    let unary: [(ElementwiseFunction, Double)] = [
        (.negate, 0), (.absolute, 0), (.exp, 0), (.log, 2), (.log1p, 0.5), (.expm1, 0), (.sqrt, 2), (.tanh, 0),
        (.sigmoid, 0),
        (.softplus, 0), (.relu, 0), (.sin, 0), (.cos, 0), (.erf, 0), (.hazard, 0), (.log1mexp, 1.5),
    ]
    for (function, offset) in unary {
        list.append(GradientCase(name: function.name, shapes: [[3, 4]], offset: offset) { $0[0].apply(function) })
    }
    for function in [ElementwiseFunction.add, .subtract, .multiply, .divide, .maximum, .minimum, .power] {
        list.append(
            GradientCase(name: function.name, shapes: [[3, 4], [4]], offset: 2) { .elementwise(function, $0) })
    }
    list += [
        GradientCase(name: "select", shapes: [[3, 4], [3, 1]]) { .select($0[0].greater(0), $0[0] * $0[1], $0[1]) },
        GradientCase(name: "given gradient", shapes: [[3, 4], [3, 4]]) { givenProduct($0[0], $0[1]) },
        GradientCase(name: "given gradient in a loop", shapes: [[3, 4], [3, 4]]) { operands in
            Tensor.scan([operands[0]], over: [], steps: 3) { carries, _ in
                ([givenProduct(carries[0], operands[1]) * 0.5 + carries[0]], [])
            }.carries[0]
        },
        GradientCase(name: "broadcast", shapes: [[3, 1, 2]]) { $0[0].broadcast(to: [5, 3, 4, 2]) },
        GradientCase(name: "reshape", shapes: [[3, 4]]) { $0[0].reshaped([2, 6]) },
        GradientCase(name: "transpose", shapes: [[2, 3, 4]]) { $0[0].transposed([2, 0, 1]) },
        GradientCase(name: "slice", shapes: [[7, 3]]) { $0[0].sliced(axis: 0, from: 1, count: 3, step: 2) },
        GradientCase(name: "slice backwards", shapes: [[7, 3]]) { $0[0].sliced(axis: 0, from: 6, count: 3, step: -2) },
        GradientCase(name: "flip", shapes: [[3, 4]]) { $0[0].flipped(axes: [1]) },
        GradientCase(name: "pad", shapes: [[3, 2]]) {
            $0[0].padded(low: [1, 0], high: [0, 2], interior: [2, 1], fill: 3)
        },
        GradientCase(name: "concatenate", shapes: [[2, 3], [2, 1]]) { .concatenate([$0[0], $0[1], $0[0]], axis: 1) },
        GradientCase(name: "sum", shapes: [[3, 4, 2]]) { $0[0].sum(axes: [0, 2]) },
        GradientCase(name: "mean", shapes: [[3, 4, 2]]) { $0[0].mean(axes: [1]) },
        GradientCase(name: "max", shapes: [[3, 4]]) { $0[0].max(axes: [1]) },
        GradientCase(name: "min", shapes: [[3, 4]]) { $0[0].min(axes: [0]) },
        GradientCase(name: "logSumExp", shapes: [[3, 4]]) { $0[0].logSumExp(axes: [1]) },
        GradientCase(name: "softmax", shapes: [[3, 4]]) { $0[0].softmax() },
        GradientCase(name: "logSoftmax", shapes: [[3, 4]]) { $0[0].logSoftmax(axis: 0) },
        GradientCase(name: "matmul", shapes: [[3, 4], [4, 2]]) { $0[0].matmul($0[1]) },
        GradientCase(name: "gather", shapes: [[2, 4, 3]]) {
            $0[0].gathered(.constant(HostArray([2, 0, 2, 3, 9, -1] as [Int32], shape: [3, 2])), axis: 1)
        },
        GradientCase(name: "roll", shapes: [[2, 5, 3]]) { $0[0].rolled(axis: 1, by: 2) * $0[0] },
        GradientCase(name: "roll backwards", shapes: [[4, 3]]) { $0[0].rolled(axis: 0, by: -5) * $0[0] },
        GradientCase(name: "segmentedSum", shapes: [[2, 6, 3]]) { $0[0].segmentedSum(axis: 1, lengths: [2, 0, 1, 3]) },
        GradientCase(name: "cumulativeSum", shapes: [[2, 4, 3]]) { $0[0].cumulativeSum(axis: 1) },
        GradientCase(name: "cumulativeSum exclusive reversed", shapes: [[2, 4, 3]]) {
            $0[0].cumulativeSum(axis: 1, exclusive: true, reversed: true)
        },
        GradientCase(name: "inverse", shapes: [[2, 3, 3]]) {
            ($0[0] + Tensor.iota([3, 3], axis: 0).equal(.iota([3, 3], axis: 1)).cast(to: .float32) * 2).inverse()
        },
        GradientCase(name: "log|det|", shapes: [[2, 3, 3]]) { $0[0].logAbsoluteDeterminant() },
        GradientCase(name: "lu", shapes: [[2, 3, 3]]) { $0[0].lu().packed },
        GradientCase(name: "triangularSolve lower", shapes: [[2, 3, 3], [2, 3, 2]], offset: 1.5) {
            $0[0].triangularSolve($0[1], isLower: true)
        },
        GradientCase(name: "triangularSolve upper transposed", shapes: [[2, 3, 3], [2, 3, 2]], offset: 1.5) {
            $0[0].triangularSolve($0[1], isLower: false, isTransposed: true)
        },
        GradientCase(name: "batched matmul", shapes: [[2, 3, 4], [1, 4, 2]]) { $0[0].matmul($0[1]) },
    ]
    list.append(
        GradientCase(name: "scan", shapes: [[3], [4, 3], [3, 3]]) { x in
            let (carries, outputs) = Tensor.scan([x[0]], over: [x[1]]) { carry, slice in
                let h = (carry[0].reshaped([1, 3]).matmul(x[2].tanh()).reshaped([3]) + slice[0]).tanh()
                return ([h], [h * slice[0]])
            }
            return .concatenate([carries[0].reshaped([1, 3]), outputs[0]], axis: 0)
        })
    list.append(
        GradientCase(name: "scan with a counter and masks", shapes: [[2, 3], [3, 3], [3]]) { x in
            let mask = MaskStructure.degrees(input: [1, 2, 3], output: [2, 3, 1], strict: false)
            let (carries, outputs) = Tensor.scan([x[0], .scalar(0, .int32)], over: [], steps: 3) { carries, _ in
                let h = (carries[0].maskedDense(x[1], mask: mask) + x[2] * carries[1].cast(to: .float32)).tanh()
                return ([h, carries[1] + .scalar(1, .int32)], [carries[0].maskedDense(x[1], mask: mask), h * x[2]])
            }
            return carries[0] * outputs[0].sum(axes: [0]) + outputs[1].sum(axes: [0])
        })
    let degrees = MaskStructure.degrees(input: [1, 2, 3, 4], output: [1, 3, 3, 2, 4], strict: false)
    let bits = MaskStructure.matrix(BitMatrix(rows: 5, columns: 4) { ($0 * 7 + $1 * 3) % 4 < 2 })
    for (name, mask) in [("staircase", degrees), ("matrix", bits)] {
        list.append(
            GradientCase(name: "maskedDense \(name)", shapes: [[3, 4], [5, 4]]) { $0[0].maskedDense($0[1], mask: mask) }
        )
    }
    list.append(
        GradientCase(name: "maskedDense runtime", shapes: [[3, 4], [5, 4]]) {
            $0[0].maskedDense(
                $0[1], mask: .runtime(strict: true),
                degrees: (
                    .constant(HostArray([1, 2, 3, 0] as [Int32])), .constant(HostArray([2, 3, 1, 4, 0] as [Int32]))
                ))
        })
    return list + convolutions
}()

private let convolutions: [GradientCase] = {
    let rgb = ConvolutionMask.causal(.b, kernel: [3, 3], outputs: 3, inputs: 4, channelGroups: 2)
    let odd = ConvolutionMask(kernel: [2, 3]) { ($0[0] + $0[1]) % 2 == 0 }
    return [
        GradientCase(name: "convolution 1d causal", shapes: [[2, 3, 7], [2, 3, 2]]) {
            $0[0].convolution($0[1], padding: [(2, 0)], dilation: [2])
        },
        GradientCase(name: "convolution 2d strided grouped", shapes: [[2, 4, 5, 6], [6, 2, 3, 2]]) {
            $0[0].convolution($0[1], stride: [2, 3], padding: [(1, 0), (2, 1)], groups: 2)
        },
        GradientCase(name: "convolution 2d mask B", shapes: [[1, 4, 3, 4], [3, 4, 3, 3]]) {
            $0[0].convolution($0[1], padding: [(1, 1), (1, 1)], mask: rgb)
        },
        GradientCase(name: "convolution 2d cropped", shapes: [[1, 2, 4, 5], [3, 2, 2, 3]]) {
            $0[0].convolution($0[1], padding: [(1, -1), (-1, 2)], mask: odd)
        },
        GradientCase(name: "convolution 3d", shapes: [[1, 2, 3, 3, 3], [2, 2, 2, 2, 2]]) {
            $0[0].convolution($0[1], padding: [(1, 0), (0, 1), (0, 0)], dilation: [1, 2, 1])
        },
        GradientCase(name: "depthwise convolution", shapes: [[2, 3, 4, 4], [3, 1, 3, 3]]) {
            $0[0].convolution($0[1], padding: [(1, 1), (1, 1)], groups: 3)
        },
        GradientCase(name: "transposed convolution", shapes: [[2, 4, 3, 2], [4, 2, 3, 2]]) {
            $0[0].transposedConvolution(
                $0[1], stride: [2, 3], padding: [(1, 0), (0, 1)], outputPadding: [1, 2], groups: 2)
        },
    ]
}()

@Suite struct GradientTests {
    /// Reverse mode, and reverse mode of reverse mode, against central differences in double precision.
    @Test(arguments: cases) func matchesFiniteDifferences(_ test: GradientCase) throws {
        let inputs = test.shapes.enumerated().map { Tensor.input("x\($0)", $1) }
        let values = test.shapes.enumerated().map { index, shape in
            Values(
                shape: shape.resolved(batch: 1),
                elements: numbers(shape.count.coefficient, seed: UInt64(index + 3)).map { $0 + test.offset })
        }
        let bindings = { (values: [Values]) in
            Dictionary(uniqueKeysWithValues: values.enumerated().map { ("x\($0)", $1) })
        }
        // A scalar that weighs every element differently, and bends, so that the second derivative is not trivial.
        func scalar(_ y: Tensor) throws -> Tensor {
            let count = y.shape.count.coefficient
            let weights = Tensor.constant(
                HostArray(numbers(count, seed: 99).map { Float($0) }, shape: y.shape.resolved(batch: 1)))
            return (y * weights).sum() + (y * y).sum() * 0.25
        }
        let loss = try scalar(test.build(inputs))
        let first = try gradients(of: loss, with: inputs)
        let second = try gradients(of: first.map { ($0 * $0).sum() }.reduce(.scalar(0), +), with: inputs)
        let half = first.map { ($0 * $0).sum() }.reduce(.scalar(0), +)
        for (order, (function, gradient)) in [(loss, first), (half, second)].enumerated() {
            let exact = try Interpreter(bindings(values)).run(gradient)
            for (operand, value) in values.enumerated() {
                for e in value.elements.indices {
                    let step = 1e-5
                    var sides: [Double] = []
                    for sign in [1.0, -1.0] {
                        var moved = values
                        moved[operand].elements[e] += sign * step
                        sides.append(try Interpreter(bindings(moved)).run(function).elements[0])
                    }
                    let numeric = (sides[0] - sides[1]) / (2 * step)
                    #expect(
                        abs(numeric - exact[operand].elements[e]) <= 1e-6 * max(1, abs(numeric)),
                        "\(test.name), order \(order + 1), operand \(operand), element \(e)")
                }
            }
        }
    }

    /// Rules that meet the gradient 1 with numbers of their own, in the type of the graph.
    @Test func scalarsOfDoublePrecision() throws {
        let x = Tensor.state("x", [], .float64)
        for y in [
            x.relu(), x.maximum(.scalar(0, .float64)), .select(x.less(1), x, 2), Tensor.scalar(0.5, .float64) * 2,
            x * -2 + x.squared() * 0.5, x + -.scalar(0.1), x * (Tensor.scalar(0.5) / 3),
        ] {
            let gradient = try gradients(of: y, with: [x])[0]
            #expect(y.elementType == .float64 && gradient.elementType == .float64)
            #expect(try Interpreter(["x": Values(shape: [], elements: [0.75])]).run(gradient).elements.count == 1)
        }
    }

    /// Methods stand where the author called them; operators, which cannot be asked, stand with their latest operand.
    @Test func operationsKnowTheirLine() {
        let line: UInt = #line
        let x = Tensor.input("x", [.batch, 4])
        let a = x.relu()
        let b = x.maximum(0)
        let sum = b + a
        let mean = sum.mean(axes: [1], keepingAxes: true)
        #expect(a.location?.line == line + 2 && b.location?.line == line + 3 && sum.location?.line == line + 3)
        #expect(mean.location?.line == line + 5 && mean.location?.file == #fileID)
        #expect(Tensor.select(x.less(1), x, 2).location?.line == #line)
        #expect(sum.logSumExp(axes: [1]).location?.line == #line)
        // Nothing else tells where gradients come from.
        #expect((try? gradients(of: a.sum(), with: [x]))?[0].location?.file == #fileID)
    }

    @Test func namesTheMistakeAndItsLine() throws {
        let x = Tensor.input("x", [.batch, 4])
        let line: UInt = #line + 1
        let wrong = x.matmul(Tensor.input("w", [5, 3]))
        let error = #expect(throws: GraphError.self) { try gradients(of: (wrong + 1).sum(), with: [x]) }
        #expect(error?.location?.line == line)
        #expect(error?.message.contains("[batch, 4]") == true && error?.message.contains("[5, 3]") == true)
    }

    /// A literal takes the type of the tensor beside it, and is refused where that type does not hold it.
    @Test func literalsThatATypeCannotHoldAreRefused() throws {
        let (i, u) = (Tensor.input("i", [3], .int32), Tensor.input("u", [3], .uint8))
        let b = Tensor.input("b", [3], .bool)
        let half = 0.5
        let wrong: [(Tensor, literal: String, type: String)] = [
            (i * 0.5, "0.5", "int32"), (i.less(2.5), "2.5", "int32"), (u.equal(0.5), "0.5", "uint8"),
            (.select(b, u, 300), "300", "uint8"), (u.less(-1), "-1", "uint8"), (b.equal(2), "2", "bool"),
            (i + 1e10, "10000000000", "int32"), (2.5 - i, "2.5", "int32"), (i.maximum(.scalar(.nan)), "nan", "int32"),
            (i.minimum(.scalar(-.infinity)), "-inf", "int32"), (Tensor.scalar(3, .int32) * half, "0.5", "int32"),
            (i.padded(low: [1], high: [0], fill: 0.5), "0.5", "int32"),
        ]
        for (tensor, literal, type) in wrong {
            let error = #expect(throws: GraphError.self, "\(literal)") { try Interpreter().run(tensor) }
            let message = error?.message ?? ""
            #expect(message.contains(literal) && message.contains(type) && message.contains("cast"), "\(message)")
        }
        let bindings = ["i": Values(shape: [3], elements: [1, 2, 3]), "u": Values(shape: [3], elements: [0, 255, 7])]
        let right: [(Tensor, [Double])] = [
            (i + 2_147_483_647, [-2_147_483_648, -2_147_483_647, -2_147_483_646]), (i * -2.0, [-2, -4, -6]),
            (u.less(255), [1, 0, 1]), (u.cast(to: .float32).equal(0.5), [0, 0, 0]),
        ]
        for (tensor, expected) in right {
            #expect(try Interpreter(batch: 1, bindings).run(tensor).elements == expected)
        }
    }
}
