import Compiler
import Graph
import Testing

@testable import CPU

/// Products in all roles, with every kind of mask, against plain loops in double precision.
@Suite struct ProductTests {
    /// How a schedule's product is to be made.
    struct Case: CustomStringConvertible, Sendable {
        var m: Int, n: Int, k: Int
        var transposesA = false
        var transposesB = false
        var batch: [Int] = []
        var element = ElementType.float32

        var description: String {
            "\(batch)\(m)x\(k)x\(n)\(transposesA ? " a'" : "")\(transposesB ? " b'" : "") \(element)"
        }
    }

    /// Row-major (or transposed) matrices as operands of a product.
    private func matrix(_ value: Int, rows: Int, columns: Int, transposed: Bool, batch: [Int], _ element: ElementType)
        -> Operand
    {
        var strides = transposed ? [1, rows] : [columns, 1]
        var size = rows * columns
        for extent in batch.reversed() {
            strides.insert(size, at: 0)
            size *= extent
        }
        return Operand(.value(value), strides: strides.map { Extent($0) }, element: element)
    }

    /// A product with the epilogue relu(p + bias[n]) beside the raw product.
    private func schedule(_ c: Case, mask: ProductGroup.Mask? = nil, degrees: (Int, Int)? = nil) -> (Schedule, [Int]) {
        var schedule = Schedule()
        let all = c.batch.map { Extent($0) }
        let a = schedule.input(Shape(all + [Extent(c.m * c.k)]), c.element)
        let b = schedule.input(Shape(all + [Extent(c.k * c.n)]), c.element)
        let bias = schedule.input([Extent(c.n)], c.element)
        let raw = schedule.output(Shape(all + [Extent(c.m), Extent(c.n)]), c.element)
        let activated = schedule.output(Shape(all + [Extent(c.m), Extent(c.n)]), c.element)
        var inputs = [a, b, bias]
        var mask = mask
        if let degrees {
            let input = schedule.input([Extent(degrees.0)], .int32)
            let output = schedule.input([Extent(degrees.1)], .int32)
            mask?.runtimeDegrees = (input, output)
            inputs += [input, output]
        }
        let program = Program(
            inputs: [c.element, c.element],
            instructions: [.init(.add, [0, 1], c.element), .init(.relu, [2], c.element)], outputs: [0, 3])
        schedule.append(
            ProductGroup(
                batch: all, m: Extent(c.m), n: Extent(c.n), k: Extent(c.k),
                a: matrix(a, rows: c.m, columns: c.k, transposed: c.transposesA, batch: c.batch, c.element),
                b: matrix(b, rows: c.k, columns: c.n, transposed: c.transposesB, batch: c.batch, c.element),
                mask: mask,
                epilogueInputs: [
                    Operand(.value(bias), strides: all.map { _ in 0 } + [0, 1], element: c.element)
                ], epilogue: program, outputs: [schedule.whole(raw), schedule.whole(activated)]))
        return (schedule, inputs)
    }

    private func feeds(_ c: Case, _ inputs: [Int], seed: UInt64 = 1) -> [Int: HostArray] {
        var generator = Generator(seed)
        let array = { (shape: [Int]) -> HostArray in
            let values = generator.floats(shape.reduce(1, *))
            return HostArray(Values(shape: shape, elements: values.map { Double($0) }), as: c.element)
        }
        return [
            inputs[0]: array(c.batch + [c.m * c.k]), inputs[1]: array(c.batch + [c.k * c.n]), inputs[2]: array([c.n]),
        ]
    }

    static let plain: [Case] = [
        Case(m: 1, n: 1, k: 1), Case(m: 1, n: 700, k: 33), Case(m: 37, n: 1, k: 50), Case(m: 5, n: 17, k: 1),
        Case(m: 14, n: 32, k: 64), Case(m: 15, n: 33, k: 65), Case(m: 100, n: 130, k: 75),
        Case(m: 100, n: 130, k: 75, transposesA: true), Case(m: 100, n: 130, k: 75, transposesB: true),
        Case(m: 29, n: 48, k: 700, transposesA: true, transposesB: true), Case(m: 530, n: 40, k: 20),
        Case(m: 1030, n: 70, k: 8, transposesB: true), Case(m: 3, n: 20, k: 0),
        // Rows of a whose places in a cache collide.
        Case(m: 50, n: 70, k: 1024), Case(m: 50, n: 150, k: 1024, transposesB: true),
        Case(m: 128, n: 70, k: 40, transposesA: true), Case(m: 128, n: 140, k: 300, transposesA: true),
        Case(m: 7, n: 20, k: 40, batch: [3, 4]),
        Case(m: 1, n: 9, k: 5, transposesB: true, batch: [6]),
        Case(m: 40, n: 50, k: 330, transposesA: true, batch: [2]),
        Case(m: 11, n: 21, k: 40, transposesB: true, element: .float64),
        Case(m: 5, n: 4, k: 3, batch: [2, 2], element: .float64),
    ]

    @Test(arguments: plain) func plainProducts(_ c: Case) throws {
        let (schedule, inputs) = schedule(c)
        try check(schedule, feeds(c, inputs), tolerance: c.element == .float64 ? 1e-13 : 2e-6)
    }

    /// A layer `[outputs, inputs]` with a batch of rows, in each role.
    static func product(_ role: ProductGroup.Role, inputs: Int, outputs: Int, rows: Int) -> Case {
        switch role {
        case .forward: Case(m: rows, n: outputs, k: inputs, transposesB: true)
        case .inputGradient: Case(m: rows, n: inputs, k: outputs)
        case .weightGradient: Case(m: outputs, n: inputs, k: rows, transposesA: true)
        }
    }

    enum MaskKind: CaseIterable {
        case sorted, descending, twice, unsorted, matrix, blocks, runtimeSorted, runtime, allDead
    }

    private func degrees(_ count: Int, _ kind: MaskKind, _ generator: inout Generator) -> [Int32] {
        // These are products as they lie.
        let half = (count + 1) / 2
        if kind == .descending { return (0..<count).map { Int32((count - $0) * 40 / count) } }
        if kind == .twice { return (0..<count).map { Int32($0 % half * 40 / half) } }
        let degrees = (0..<count).map { _ in Int32.random(in: 0..<40, using: &generator) }
        return kind == .sorted || kind == .runtimeSorted ? degrees.sorted() : degrees
    }

    static let roles: [ProductGroup.Role] = [.forward, .inputGradient, .weightGradient]
    static let layers: [(inputs: Int, outputs: Int, rows: Int)] = [
        (9, 7, 3), (100, 70, 30), (64, 64, 14), (133, 200, 50), (400, 41, 17), (90, 300, 1), (70, 35, 520),
    ]

    @Test(arguments: roles, MaskKind.allCases)
    func maskedProducts(role: ProductGroup.Role, kind: MaskKind) throws {
        for (index, layer) in Self.layers.enumerated() {
            for strict in [false, true] {
                var generator = Generator(UInt64(index + 5))
                let input = degrees(layer.inputs, kind, &generator)
                let output = degrees(layer.outputs, kind, &generator)
                let structure: MaskStructure
                switch kind {
                case .sorted, .descending, .twice, .unsorted:
                    structure = .degrees(input: input, output: output, strict: strict)
                case .runtime, .runtimeSorted: structure = .runtime(strict: strict)
                case .matrix:
                    structure = .matrix(
                        BitMatrix(rows: layer.outputs, columns: layer.inputs) { _, _ in Bool.random(using: &generator) }
                    )
                case .blocks:
                    structure = .matrix(
                        BitMatrix(rows: layer.outputs, columns: layer.inputs) { o, i in
                            (o / 37 + i / 45) % 2 == 0 && i % 50 != 3
                        })
                case .allDead: structure = .matrix(BitMatrix(rows: layer.outputs, columns: layer.inputs))
                }
                let c = Self.product(role, inputs: layer.inputs, outputs: layer.outputs, rows: layer.rows)
                let mask = ProductGroup.Mask(structure, role)
                let isRuntime = kind == .runtime || kind == .runtimeSorted
                let (schedule, values) = schedule(
                    c, mask: mask, degrees: isRuntime ? (layer.inputs, layer.outputs) : nil)
                var feeds = feeds(c, values)
                if isRuntime {
                    feeds[values[3]] = HostArray(input)
                    feeds[values[4]] = HostArray(output)
                }
                // Dead weights must not matter, whatever they hold.
                if role != .weightGradient { poison(&feeds[values[1]]!, structure, input, output, strict, role, layer) }
                try check(schedule, feeds, tolerance: 2e-6)
            }
        }
    }

    /// Makes some dead weights NaN and the others huge.
    private func poison(
        _ weights: inout HostArray, _ structure: MaskStructure, _ input: [Int32], _ output: [Int32], _ strict: Bool,
        _ role: ProductGroup.Role, _ layer: (inputs: Int, outputs: Int, rows: Int)
    ) {
        var values = weights.floats
        for o in 0..<layer.outputs {
            for i in 0..<layer.inputs {
                let live =
                    structure.isLive(output: o, input: i) ?? (strict ? input[i] < output[o] : input[i] <= output[o])
                // Both roles read the weight [out, in] row by row.
                if !live { values[o * layer.inputs + i] = (o + i) % 2 == 0 ? .nan : 1e30 }
            }
        }
        weights = HostArray(values, shape: weights.shape)
    }

    // MARK: what is skipped

    /// Multiply-adds of one run, for a layer of sorted degrees.
    private func executed(_ role: ProductGroup.Role, _ structure: MaskStructure?, width: Int, rows: Int) throws -> Int {
        let c = Self.product(role, inputs: width, outputs: width, rows: rows)
        let (schedule, values) = schedule(c, mask: structure.map { ProductGroup.Mask($0, role) })
        let executable = try device(.best).load(schedule, maximumBatch: 1, states: [:]) as! CPUExecutable
        let arrays = feeds(c, values)
        _ = try executable.run(
            Dictionary(uniqueKeysWithValues: arrays.map { ("input \($0.key)", Feed.host($0.value)) }), batch: 1)
        return executable.executedMultiplyAdds
    }

    @Test(arguments: roles) func deadTilesAreNotMultiplied(role: ProductGroup.Role) throws {
        let width = 512
        let rows = 28
        let sorted = (0..<width).map { Int32($0) }
        #expect(try executed(role, nil, width: width, rows: rows) == width * width * rows)
        let half = try executed(role, .degrees(input: sorted, output: sorted, strict: false), width: width, rows: rows)
        #expect(half >= width * (width + 1) / 2 * rows, "every live element must be computed")
        #expect(half <= width * width * rows * 56 / 100)
        #expect(try executed(role, .matrix(BitMatrix(rows: width, columns: width)), width: width, rows: rows) == 0)
        let unsorted = sorted.map { $0 * 7 % Int32(width) }
        let gathered = try executed(
            role, .degrees(input: unsorted, output: unsorted, strict: false), width: width, rows: rows)
        #expect(abs(gathered - half) < half / 100, "sorting brings an unsorted mask to the same staircase")
        let twice = sorted.map { $0 * 2 % Int32(width) }
        let lying = try executed(
            role, .degrees(input: sorted.reversed(), output: twice, strict: false), width: width, rows: rows)
        #expect(lying >= width * (width + 1) / 2 * rows && lying <= width * width * rows * 60 / 100)
    }

    /// A weight gradient that ends in an update of a weight and its momentum, in place; dead entries rest at zero.
    @Test(arguments: [MaskKind.sorted, .twice, .unsorted, .blocks, .runtime], InstructionSet.available)
    func updatesInPlace(kind: MaskKind, instructionSet: InstructionSet) throws {
        let layer = (inputs: 150, outputs: 120, rows: 40)
        var generator = Generator(77)
        let input = degrees(layer.inputs, kind, &generator)
        let output = degrees(layer.outputs, kind, &generator)
        let structure: MaskStructure =
            switch kind {
            case .blocks: .matrix(BitMatrix(rows: 120, columns: 150) { o, i in (o / 37 + i / 45) % 2 == 0 })
            case .runtime: .runtime(strict: true)
            default: .degrees(input: input, output: output, strict: true)
            }
        let isLive = { (o: Int, i: Int) in structure.isLive(output: o, input: i) ?? (input[i] < output[o]) }
        let c = Self.product(.weightGradient, inputs: layer.inputs, outputs: layer.outputs, rows: layer.rows)
        var results: [[HostArray]] = []
        for staysZero in [false, true] {
            var (schedule, values) = schedule(
                c, mask: ProductGroup.Mask(structure, .weightGradient, deadOutputsStayZero: staysZero),
                degrees: kind == .runtime ? (layer.inputs, layer.outputs) : nil)
            let weight = schedule.add([120, 150], .float32, .state("weight"))
            let momentum = schedule.add([120, 150], .float32, .state("momentum"))
            guard var group = schedule.groups[0].kind as? ProductGroup else { return }
            // momentum = 0.5 momentum + gradient; weight = weight - 0.1 momentum
            group.epilogue = Program(
                inputs: [.float32, .float32, .float32], constants: [.init(0.5, .float32), .init(0.1, .float32)],
                instructions: [
                    .init(.multiply, [2, 3], .float32), .init(.add, [5, 0], .float32),
                    .init(.multiply, [6, 4], .float32),
                    .init(.subtract, [1, 7], .float32),
                ], outputs: [6, 8])
            group.epilogueInputs = [schedule.whole(weight), schedule.whole(momentum)]
            group.outputs = [schedule.whole(momentum), schedule.whole(weight)]
            schedule.groups[0].kind = group
            schedule.outputs = [weight, momentum]
            var feeds = feeds(c, values)
            if kind == .runtime {
                feeds[values[3]] = HostArray(input)
                feeds[values[4]] = HostArray(output)
            }
            for state in [weight, momentum] {
                var start = generator.floats(120 * 150)
                for o in 0..<120 { for i in 0..<150 where !isLive(o, i) { start[o * 150 + i] = 0 } }
                feeds[state] = HostArray(start, shape: [120, 150])
            }
            if staysZero { generator = Generator(77) }
            try check(schedule, feeds, tolerance: 2e-6, instructionSets: [instructionSet])
            results.append(try run(schedule, feeds, instructionSet: instructionSet))
            let weights = results.last![0].floats
            for o in 0..<120 { for i in 0..<150 where !isLive(o, i) { #expect(weights[o * 150 + i] == 0) } }
        }
    }

    /// A batch axis on which b does not depend becomes more rows, with the same results.
    @Test func sharedWeightsFoldTheBatch() throws {
        var schedule = Schedule()
        let x = schedule.input([.batch, 5, 40])
        let w = schedule.input([40, 30])
        let y = schedule.output([.batch, 5, 30])
        schedule.append(
            ProductGroup(
                batch: [.batch], m: 5, n: 30, k: 40, a: schedule.whole(x),
                b: Operand(.value(w), strides: [0, 30, 1], element: .float32), epilogueInputs: [],
                epilogue: .identity,
                outputs: [schedule.whole(y)]))
        var generator = Generator(4)
        let weights = HostArray(generator.floats(1200), shape: [40, 30])
        for batch in [1, 2, 7] {
            try check(
                schedule, [x: HostArray(generator.floats(batch * 200), shape: [batch, 5, 40]), w: weights], batch: batch
            )
        }
    }

    /// The same executable with other degrees at every run, as connectivity-agnostic training has them.
    @Test(arguments: roles) func degreesChangeFromRunToRun(role: ProductGroup.Role) throws {
        let layer = (inputs: 90, outputs: 75, rows: 20)
        let c = Self.product(role, inputs: layer.inputs, outputs: layer.outputs, rows: layer.rows)
        let (schedule, values) = schedule(
            c, mask: ProductGroup.Mask(.runtime(strict: false), role), degrees: (layer.inputs, layer.outputs))
        let executable = try device(.best).load(schedule, maximumBatch: 1, states: [:])
        var generator = Generator(21)
        var feeds = feeds(c, values)
        for round in 0..<4 {
            let kind: MaskKind = round == 1 ? .sorted : .unsorted
            // The last round repeats the one before.
            if round < 3 {
                feeds[values[3]] = HostArray(degrees(layer.inputs, kind, &generator))
                feeds[values[4]] = HostArray(degrees(layer.outputs, kind, &generator))
            }
            let reference = Reference(schedule, batch: 1, inputs: feeds)
            let named = Dictionary(uniqueKeysWithValues: feeds.map { ("input \($0.key)", Feed.host($0.value)) })
            for (output, result) in zip(schedule.outputs, try executable.run(named, batch: 1)) {
                for (a, b) in zip(result.doubles, reference.values[output]!) { #expect(abs(a - b) < 1e-5) }
            }
        }
    }

    /// Weights that a program only reads are packed once: every way of writing them must reach its next run.
    @Test(
        arguments: [ProductGroup.Role.forward, .inputGradient],
        [MaskKind?.none, .sorted, .twice, .unsorted, .blocks])
    func weightsChangeBetweenRuns(role: ProductGroup.Role, kind: MaskKind?) throws {
        for (inputs, outputs) in [(150, 120), (63, 70), (40, 520)] {
            var generator = Generator(91)
            let structure: MaskStructure? =
                switch kind {
                case .none: nil
                case .blocks: .matrix(BitMatrix(rows: outputs, columns: inputs) { o, i in (o / 37 + i / 45) % 2 == 0 })
                case .some(let kind):
                    .degrees(
                        input: degrees(inputs, kind, &generator), output: degrees(outputs, kind, &generator),
                        strict: false)
                }
            let (n, k) = role == .forward ? (outputs, inputs) : (inputs, outputs)
            func product(_ storage: Value.Storage) -> Schedule {
                var schedule = Schedule()
                let x = schedule.input([.batch, Extent(k)])
                let w = schedule.add([Extent(outputs), Extent(inputs)], .float32, storage)
                let y = schedule.output([.batch, Extent(n)])
                let strides: [Extent] = role == .forward ? [1, Extent(inputs)] : [Extent(inputs), 1]
                schedule.append(
                    ProductGroup(
                        batch: [], m: .batch, n: Extent(n), k: Extent(k), a: schedule.whole(x),
                        b: Operand(.value(w), strides: strides, element: .float32),
                        mask: structure.map { ProductGroup.Mask($0, role) }, epilogueInputs: [],
                        epilogue: .identity, outputs: [schedule.whole(y)]))
                return schedule
            }
            // w = w + w, in place.
            var doubling = Schedule()
            let w = doubling.add([Extent(outputs), Extent(inputs)], .float32, .state("w"))
            doubling.append(
                ElementwiseGroup(
                    iteration: [Extent(outputs), Extent(inputs)], inputs: [doubling.whole(w)],
                    program: Program(
                        inputs: [.float32], instructions: [.init(.add, [0, 0], .float32)], outputs: [1]),
                    outputs: [doubling.whole(w)]))
            let device = try device(.best)
            var weights = generator.floats(outputs * inputs)
            let state = try device.makeBuffer(byteCount: weights.count * 4)
            let reads = try device.load(product(.state("w")), maximumBatch: 300, states: ["w": state])
            let fed = try device.load(product(.input("w")), maximumBatch: 300, states: [:])
            let writes = try device.load(doubling, maximumBatch: 1, states: ["w": state])
            func check(_ when: String) throws {
                for batch in [300, 40, 300, 2, 1] {
                    let x = HostArray(generator.floats(batch * k), shape: [batch, k])
                    let found = try reads.run(["input 0": .host(x)], batch: batch)
                    let weight = HostArray(weights, shape: [outputs, inputs])
                    let expected = try fed.run(["input 0": .host(x), "w": .host(weight)], batch: batch)
                    #expect(found == expected, "\(when), \(batch) rows")
                }
            }
            func double() { for i in weights.indices { weights[i] += weights[i] } }
            try HostArray(weights).withUnsafeBytes { try state.write($0) }
            try check("written by the host")
            _ = try writes.run([:], batch: 1)
            double()
            try check("written by a program")
            try writes.run(group: 0, batch: 1)
            double()
            try check("written by one group of a program")
            weights = generator.floats(outputs * inputs)
            try reads.write(HostArray(weights, shape: [outputs, inputs]), to: 1, batch: 1)
            try check("written through the program")
            weights = generator.floats(outputs * inputs)
            try HostArray(weights).withUnsafeBytes { try state.write($0) }
            try check("written by the host again")
        }
    }

    /// Masked products with a batch axis, each element with weights of its own.
    @Test(arguments: roles, [MaskKind.sorted, .unsorted, .blocks])
    func batchedMaskedProducts(role: ProductGroup.Role, kind: MaskKind) throws {
        var generator = Generator(31)
        var c = Self.product(role, inputs: 50, outputs: 40, rows: 9)
        c.batch = [2, 3]
        let structure: MaskStructure =
            kind == .blocks
            ? .matrix(BitMatrix(rows: 40, columns: 50) { o, i in (o / 7 + i / 11) % 2 == 0 })
            : .degrees(input: degrees(50, kind, &generator), output: degrees(40, kind, &generator), strict: true)
        let (schedule, values) = schedule(c, mask: ProductGroup.Mask(structure, role))
        try check(schedule, feeds(c, values), tolerance: 2e-6)
    }

    /// A product that is only stored is written to its place by the tiles themselves.
    private func bare(_ c: Case, mask: ProductGroup.Mask? = nil, degrees: (Int, Int)? = nil) -> (Schedule, [Int]) {
        var (schedule, values) = schedule(c, mask: mask, degrees: degrees)
        guard var group = schedule.groups[0].kind as? ProductGroup else { return (schedule, values) }
        group.epilogue = .identity
        group.epilogueInputs = []
        group.outputs.removeLast()
        schedule.groups[0].kind = group
        schedule.outputs.removeLast()
        return (schedule, values)
    }

    @Test(arguments: plain.filter { $0.element == .float32 }) func productsThatAreOnlyStored(_ c: Case) throws {
        let (schedule, inputs) = bare(c)
        try check(schedule, feeds(c, inputs), tolerance: 2e-6)
    }

    /// The second layer is larger than the caches: its result bypasses them, and its weights are fetched ahead.
    @Test(arguments: roles, [MaskKind.sorted, .unsorted, .runtime, .blocks])
    func maskedProductsThatAreOnlyStored(role: ProductGroup.Role, kind: MaskKind) throws {
        for (inputs, outputs, rows) in [(150, 140, 33), (1501, 1403, 3)] {
            var generator = Generator(41)
            let c = Self.product(role, inputs: inputs, outputs: outputs, rows: rows)
            let input = degrees(inputs, kind, &generator)
            let output = degrees(outputs, kind, &generator)
            let structure: MaskStructure =
                switch kind {
                case .blocks: .matrix(BitMatrix(rows: outputs, columns: inputs) { o, i in (o / 30 + i / 40) % 2 == 0 })
                case .runtime: .runtime(strict: false)
                default: .degrees(input: input, output: output, strict: false)
                }
            var (schedule, values) = bare(
                c, mask: ProductGroup.Mask(structure, role), degrees: kind == .runtime ? (inputs, outputs) : nil)
            var feeds = feeds(c, values)
            // What the result's memory held does not matter.
            let result = schedule.outputs[0]
            schedule.values[result].storage = .state("result")
            schedule.states.append(result)
            feeds[result] = HostArray([Float](repeating: 7, count: c.m * c.n), shape: [c.m, c.n])
            if kind == .runtime {
                feeds[values[3]] = HostArray(input)
                feeds[values[4]] = HostArray(output)
            }
            try check(schedule, feeds, tolerance: 2e-6)
        }
    }

    /// An example's result is the same to the bit in every batch.
    @Test(arguments: [MaskKind?.none, .sorted, .unsorted], InstructionSet.available)
    func resultsDoNotDependOnTheBatch(kind: MaskKind?, instructionSet: InstructionSet) throws {
        for transposed in [false, true] {
            try compareBatches(transposed: transposed, kind: kind, instructionSet: instructionSet)
        }
    }

    private func compareBatches(transposed: Bool, kind: MaskKind?, instructionSet: InstructionSet) throws {
        let (inputs, outputs) = (450, 128)
        var generator = Generator(51)
        let weights = generator.floats(inputs * outputs)
        let x = generator.floats(600 * inputs)
        let mask = kind.map {
            ProductGroup.Mask(
                .degrees(
                    input: degrees(inputs, $0, &generator), output: degrees(outputs, $0, &generator), strict: false),
                .forward)
        }
        var first: [Float]?
        for rows in [600, 1, 7, 100] {
            let c = Case(m: rows, n: outputs, k: inputs, transposesB: transposed)
            let (schedule, values) = schedule(c, mask: mask)
            let feeds = [
                values[0]: HostArray(Array(x[..<(rows * inputs)])), values[1]: HostArray(weights),
                values[2]: HostArray([Float](repeating: 0.5, count: outputs)),
            ]
            let result = try run(schedule, feeds, instructionSet: instructionSet)[0].floats
            if let first { #expect(Array(first[..<result.count]) == result) } else { first = result }
        }
    }
}
