import CPU
import Compiler
import Graph
import OpenCL
import Testing

/// Every operation on every device against the interpreter, through the real compiler.
@Suite(.serialized) struct OperationTests {
    private func devices() throws -> [any Device] {
        var devices: [any Device] = [try CPUDevice(threads: 2)]
        for family in [KernelFamily.cpu, .gpu] {
            if let device = try? OpenCLDevice.named("opencl", kernels: family) { devices.append(device) }
        }
        return devices
    }

    private let cube = CustomOperation(
        "cube", outputType: { $0[0] }, gradient: { inputs, _, g in [g * inputs[0] * inputs[0] * 3] },
        relations: { _ in [.same] },
        evaluate: { inputs, output in
            for i in output.indices { output[i] = inputs[0][i] * inputs[0][i] * inputs[0][i] }
        },
        cpu: { inputs, output in for i in output.indices { output[i] = inputs[0][i] * inputs[0][i] * inputs[0][i] } },
        openCL: """
            __kernel void cube(__global const float* x, __global float* y, int count) {
                const int i = get_global_id(0);
                if (i < count) y[i] = x[i] * x[i] * x[i];
            }
            """)

    /// A model that goes through a user's own kernel is drawn too, by full passes.
    @Test func drawsThroughCustomOperations() throws {
        let x = Tensor.input("x", [.batch, 2, 2])
        let flat = x.reshaped([.batch, 4])
        let logits = cube(flat.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4)) * 0.5
        let drawn = (logits + Tensor.input("noise", [.batch, 4])).reshaped([.batch, 2, 2])
        let program = try SamplingProgram(
            variable: x, drawn: drawn, order: .natural(4), outputs: [logits, flat.sum(axes: [1])])
        #expect(program.fullPasses?.reason?.hasPrefix("cube has no incremental form") == true)
        let noise = numbers(12, seed: 8)
        var (rows, last) = ([Double](), [Double]())
        for b in 0..<3 {
            var before = 0.0
            for i in 0..<4 {
                last.append(before * before * before * 0.5)
                before = last.last! + noise[b * 4 + i]
                rows.append(before)
            }
        }
        let sums: [Double] = [0, 4, 8].map { (start: Int) -> Double in rows.dropFirst(start).prefix(4).reduce(0, +) }
        for device in try devices() {
            let sampler = try device.load(program, maximumBatch: 5, states: [:])
            let found = try sampler.run(
                ["noise": HostArray(Values(shape: [3, 4], elements: noise), as: .float32)], batch: 3)
            #expect(found.map(\.shape) == [[3, 2, 2], [3, 4], [3]])
            for (array, expected) in zip(found, [rows, last, sums]) {
                #expect(zip(array.doubles, expected).allSatisfy { abs($0 - $1) <= 1e-5 }, "\(device.summary)")
            }
        }
    }

    private func cases() throws -> [(String, Tensor)] {
        let x = Tensor.input("x", [.batch, 3, 3])
        let v = Tensor.input("v", [.batch, 7])
        let w = Tensor.input("w", [5, 7])
        let eye = Tensor.iota([3, 3], axis: 0).equal(.iota([3, 3], axis: 1)).cast(to: .float32)
        let root = Tensor.iterate(
            [v.squared() + 1], limit: 50,
            while: { ($0[0] * $0[0] - (v.squared() + 2)).absolute().max().greater(1e-5) },
            { [($0[0] + (v.squared() + 2) / $0[0]) * 0.5] })
        // A product with what is captured, sequences of both kinds, carries that change places.
        let square = w.matrixTransposed().matmul(w) * 0.25
        let scan = Tensor.scan(
            [v, v * 2],
            over: [
                w.reshaped([5, 1, 7]), x.reshaped([.batch, 9]).transposed([1, 0]).sliced(axis: 0, from: 0, count: 5),
            ]
        ) {
            carries, slices in
            let h = (carries[0].matmul(square) * 0.5 + slices[0] + slices[1].reshaped([.batch, 1])).tanh()
            return ([carries[1] + h, carries[0]], [h.sum(axes: [1]), slices[1], carries[1], .scalar(3)])
        }
        let scanned =
            (scan.outputs[0] * scan.outputs[1]).sum() + (scan.carries[0] * scan.outputs[2].sum(axes: [0])).sum()
            * scan.outputs[3].sum()
        let empty = Tensor.scan([v], over: [], steps: 0) { carries, _ in ([carries[0] * 2], []) }
        let unread = Tensor.scan([v], over: [w.sliced(axis: 0, from: 0, count: 0)]) {
            ([$0[0] + $1[0]], [$0[0] * $1[0]])
        }
        let nested = Tensor.scan([v], over: [w]) { carries, slices in
            let inner = Tensor.scan([carries[0]], over: [square]) {
                ([($0[0] * $1[0] + slices[0]).tanh()], [$0[0].sum()])
            }
            return (inner.carries, [inner.outputs[0]])
        }
        let images =
            x.reshaped([.batch, 1, 3, 3]) * Tensor.constant(HostArray([1, -0.5] as [Float], shape: [2, 1, 1]))
        let taps = Tensor.constant(HostArray((0..<54).map { Float($0 * 7 % 11) / 8 - 0.5 }, shape: [3, 2, 3, 3]))
        let convolved = images.convolution(
            taps, padding: [(1, 1), (1, 1)], mask: .causal(.b, kernel: [3, 3], outputs: 3, inputs: 2, channelGroups: 2))
        // Terms that are summed and wanted themselves: by rows, by columns, over the axis in the middle.
        let (rows, columns, middle) = ((v * 3).tanh(), (v * 2).sigmoid(), (x + 0.25).exp())
        let bits = BitMatrix(rows: 5, columns: 7) { ($0 * 7 + $1 * 3) % 4 < 2 }
        return [
            ("elementwise", ((v * 2 + 1).tanh() * v.sigmoid()).softplus() + v.absolute().sqrt()),
            ("softmax", v.softmax()), ("logSumExp", v.logSumExp(axes: [1])), ("mean over the batch", v.mean(axes: [0])),
            ("matmul", v.matmul(w.matrixTransposed())), ("batched matmul", x.matmul(x.matrixTransposed()) + x),
            ("masked", (v.maskedDense(w, mask: .matrix(bits)) + 1).relu()),
            (
                "movement",
                Tensor.concatenate([v.flipped(axes: [1]), v.sliced(axis: 1, from: 1, count: 3, step: 2)], axis: 1)
                    .padded(low: [0, 1], high: [0, 2], fill: 3)
            ),
            ("gather", v.gathered(.constant(HostArray([6, 0, 0, 3] as [Int32])), axis: 1)),
            (
                "scatter",
                try gradients(
                    of: v.gathered(.constant(HostArray([6, 0, 0, 3] as [Int32])), axis: 1).squared().sum(), with: [v])[
                        0]
            ),
            (
                "scatter of many lines",
                try gradients(
                    of: v.reshaped([.batch, 7, 1]).broadcast(to: [.batch, 7, 16])
                        .gathered(.constant(HostArray([6, 0, 0, 3, 9] as [Int32])), axis: 1).squared().sum(), with: [v])[
                        0]
            ),
            ("terms of sums of rows", rows), ("sums of rows", rows.sum(axes: [1])),
            ("terms of sums of columns", columns), ("sums of columns", columns.sum(axes: [0])),
            ("terms of maxima", middle), ("maxima", middle.max(axes: [1])),
            ("one-hot", Tensor.iota([.batch], axis: 0).oneHot(4)),
            ("cumulative", v.cumulativeSum(axis: 1) + v.cumulativeSum(axis: 1, exclusive: true, reversed: true)),
            ("inverse", (x + eye * 3).inverse()), ("log|det|", (x + eye * 3).logAbsoluteDeterminant()),
            ("lu", (x + eye * 3).lu().packed),
            ("triangular", (x + eye * 3).triangularSolve(x, isLower: true)), ("custom", cube(v) + 1),
            ("convolution", (convolved + 0.5).relu()),
            ("convolution gradients", try gradients(of: convolved.squared().sum(), with: [images, taps])[0]),
            ("weight gradient", try gradients(of: convolved.squared().sum(), with: [images, taps])[1]),
            ("transposed convolution", convolved.transposedConvolution(taps, stride: [2, 1], outputPadding: [1, 0])),
            ("custom gradient", try gradients(of: cube(v).sum(), with: [v])[0]), ("iterate", root.carries[0]),
            ("steps of an iteration", root.steps), ("no steps", empty.carries[0]),
            ("no slices", unread.carries[0]), ("nothing stacked", unread.outputs[0]),
            (
                "gradient of no steps",
                try gradients(of: unread.carries[0].squared().sum() + unread.outputs[0].sum(), with: [v])[0]
            ),
            ("scan", scan.outputs[0]), ("stacked slices", scan.outputs[1]), ("stacked carries", scan.outputs[2]),
            ("last carries", scan.carries[1]), ("nested scan", nested.outputs[0]),
            ("gradient of a scan", try gradients(of: scanned, with: [v])[0]),
            ("gradient through captures", try gradients(of: scanned, with: [w])[0]),
            ("gradient of a nested scan", try gradients(of: nested.outputs[0].squared().sum(), with: [w])[0]),
            (
                "second derivative",
                try gradients(of: gradients(of: (v.tanh() * v).sum(), with: [v])[0].squared().sum(), with: [v])[0]
            ),
        ]
    }

    @Test func everyDeviceAgreesWithTheInterpreter() throws {
        let all = try cases()
        for device in try devices() {
            // One program for all, as a real model has.
            let executable = try device.load(compile(all.map(\.1)), maximumBatch: 5, states: [:])
            for batch in [1, 5] {
                var bindings: [String: Values] = [:]
                for (seed, (name, shape)) in [("x", [batch, 3, 3]), ("v", [batch, 7]), ("w", [5, 7])].enumerated() {
                    bindings[name] = Values(shape: shape, elements: numbers(shape.reduce(1, *), seed: UInt64(seed + 1)))
                }
                let expected = try Interpreter(batch: batch, bindings).run(all.map(\.1))
                let found = try executable.run(bindings.mapValues { .host(HostArray($0, as: .float32)) }, batch: batch)
                for (index, (name, _)) in all.enumerated() {
                    let largest = max(1, expected[index].elements.map { abs($0) }.max() ?? 0)
                    let worst = zip(expected[index].elements, found[index].doubles).map { abs($0 - $1) }.max() ?? 0
                    #expect(
                        worst <= 1e-5 * largest && found[index].shape == expected[index].shape,
                        "\(name) on \(device.summary), batch \(batch): \(worst)")
                }
            }
        }
    }

    /// A sum is what it would be without rounding, rounded once: also where positive and negative elements all but cancel, along
    /// rows and columns, of few results and of many, with what is summed computed on the way; an infinite one stays infinite.
    @Test func sumsThatCancel() throws {
        let count = 3000
        let x = Tensor.input("x", [Extent(count), 20])
        let halves = (x * 0.5).reshaped([Extent(count / 10), 10, 20])
        let wide = Tensor.input("w", [20, Extent(count)])
        let sums = [
            x.sum(axes: [0]), wide.sum(axes: [1]), x.transposed([1, 0]).sum(axes: [1]), x.sum(),
            halves.sum(axes: [0, 1]),
        ]
        let infinite = Tensor.input("i", [200]).sum()
        var elements = numbers(count * 20, seed: 3)
        for row in count / 2..<count {
            // Each column's second half takes back the first, in another order, and leaves a few millionths.
            for column in 0..<20 { elements[row * 20 + column] = -elements[(count - 1 - row) * 20 + column] }
        }
        for column in 0..<20 {
            elements[(count / 2 + column) * 20 + column] += Double(Float(3e-6 * Double(column + 1)))
        }
        elements = elements.map { Double(Float($0)) }
        let turned = (0..<20).flatMap { column in (0..<count).map { elements[$0 * 20 + column] } }
        let bindings: [String: Values] = [
            "x": Values(shape: [count, 20], elements: elements), "w": Values(shape: [20, count], elements: turned),
            "i": Values(shape: [200], elements: (0..<200).map { $0 == 77 ? .infinity : 1 }),
        ]
        let expected = try Interpreter(batch: 1, bindings).run(sums)
        for device in try devices() {
            let executable = try device.load(compile(sums + [infinite]), maximumBatch: 1, states: [:])
            let found = try executable.run(bindings.mapValues { .host(HostArray($0, as: .float32)) }, batch: 1)
            for (index, (a, b)) in zip(expected, found).enumerated() {
                for (p, q) in zip(a.elements, b.doubles) {
                    #expect(abs(p - q) <= 2e-7 * abs(p) + 1e-12, "sum \(index) on \(device.summary): \(q), not \(p)")
                }
            }
            #expect(found[sums.count].doubles == [.infinity])
        }
    }

    /// Group by group, what a concatenation's memory held before is not taken for what a group has written of it.
    @Test func partsAreLookedAtAlone() throws {
        let (x, w) = (Tensor.input("x", [.batch, 4]), Tensor.input("w", [4, 4]))
        let schedule = try compile([.concatenate([x.exp(), x.matmul(w)], axis: 1)])
        #expect(schedule.groups.count == 2)
        for device in try devices() {
            let executable = try device.load(schedule, maximumBatch: 2, states: [:])
            func feeds(_ value: Double) -> [String: HostArray] {
                [
                    "x": HostArray(
                        Values(shape: [2, 4], elements: [Double](repeating: value, count: 8)), as: .float32),
                    "w": HostArray(Values(shape: [4, 4], elements: [Double](repeating: 1, count: 16)), as: .float32),
                ]
            }
            _ = try executable.run(feeds(.nan).mapValues { .host($0) }, batch: 2)
            for id in schedule.inputs {
                try executable.write(feeds(0)[schedule.values[id].label]!, to: id, batch: 2)
            }
            var written = Set<Int>()
            for group in schedule.groups.indices {
                try executable.clearFirstWrites(of: group, written: &written, batch: 2)
                try executable.run(group: group, batch: 2)
                let whole = try executable.read(schedule.outputs[0], batch: 2).doubles
                #expect(!whole.contains { !$0.isFinite }, "after group \(group) on \(device.summary): \(whole)")
            }
            let whole = try executable.read(schedule.outputs[0], batch: 2).doubles
            #expect(whole == [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
        }
    }

    /// What an integer cannot hold becomes the nearest that it can, and NaN zero; sums wrap around.
    @Test func integersSaturateAndSumsWrap() throws {
        // More than sixteen, so that vectors and single elements are seen.
        let reals: [Double] = [
            1e10, -1e10, .infinity, -.infinity, .nan, 2_147_483_648, -2_147_483_648, 2_147_483_520, 2.9, -2.9, -0.5,
            255,
            255.9, 256, 300, -1, 0, 1e30, -1e30, 127.5,
        ]
        let wholes = reals.map { $0.isNaN ? 0 : max(-2_147_483_648, min(2_147_483_647, $0.rounded(.towardZero))) }
        let bytes = wholes.map { max(0, min(255, $0)) }
        let x = Tensor.input("x", [20]), i = Tensor.input("i", [20], .int32)
        let constant = Tensor.constant(HostArray(reals.map { Float($0) }))
        let large = Tensor.input("l", [3, 20], .int32)
        let outputs = [
            x.cast(to: .int32), x.cast(to: .uint8), i.cast(to: .uint8), constant.cast(to: .int32),
            constant.cast(to: .uint8), large.sum(), large.sum(axes: [0]), large.sum(axes: [1]),
            Tensor.constant(HostArray([Int32.max, 1, 1])).sum(),
        ]
        let sums: [[Double]] = [[60], [Double](repeating: 3, count: 20), [20, 20, 20]].map {
            // Each element is 2^31 - 1, or -1 but for a multiple of 2^31.
            $0.map { Double(Int32(truncatingIfNeeded: Int64($0) * 2_147_483_647)) }
        }
        let expected = [wholes, bytes, bytes, wholes, bytes] + sums + [[-2_147_483_647]]
        let bindings: [String: Values] = [
            "x": Values(shape: [20], elements: reals), "i": Values(shape: [20], elements: wholes),
            "l": Values(shape: [3, 20], repeating: 2_147_483_647),
        ]
        let feeds: [String: Feed] = [
            "x": .host(HostArray(bindings["x"]!, as: .float32)), "i": .host(HostArray(bindings["i"]!, as: .int32)),
            "l": .host(HostArray(bindings["l"]!, as: .int32)),
        ]
        for (a, b) in zip(try Interpreter(batch: 1, bindings).run(outputs), expected) { #expect(a.elements == b) }
        for device in try devices() {
            let found = try device.load(compile(outputs), maximumBatch: 1, states: [:]).run(feeds, batch: 1)
            for (index, (a, b)) in zip(found, expected).enumerated() {
                #expect(a.doubles == b, "\(index) on \(device.summary)")
            }
        }
        let double = Tensor.input("x", [20], .float64)
        let found = try CPUDevice(threads: 1)
            .load(compile([double.cast(to: .int32), double.cast(to: .uint8)]), maximumBatch: 1, states: [:])
            .run(["x": .host(HostArray(reals))], batch: 1)
        #expect(found.map(\.doubles) == [wholes, bytes])
    }

    /// Devices refuse the same mistakes, and say what they are.
    @Test func devicesRefuseTheSame() throws {
        let schedule = try compile([Tensor.input("x", [.batch]) * 2])
        let x = HostArray([1] as [Float])
        let variable = Tensor.input("v", [.batch, 2])
        let sampler = try SamplingProgram(
            variable: variable,
            drawn: variable.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 2) + 1, order: .natural(2)
        )
        for device in try devices() {
            func message(_ body: () throws -> Void) -> String {
                do { try body() } catch { return "\(error)" }
                return "nothing was refused"
            }
            let executable = try device.load(schedule, maximumBatch: 2, states: [:])
            let unknown = message { _ = try executable.run(["x": .host(x), "y": .host(x)], batch: 1) }
            #expect(unknown.contains("no input") && unknown.contains("y"), "\(device.summary): \(unknown)")
            for empty in [
                message { _ = try device.load(schedule, maximumBatch: 0, states: [:]) },
                message { _ = try device.load(sampler, maximumBatch: 0, states: [:]) },
            ] {
                #expect(empty.contains("largest batch") && empty.contains("found 0"), "\(device.summary): \(empty)")
            }
        }
    }
}
