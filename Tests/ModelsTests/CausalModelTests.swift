import Compiler
import Distributions
import Graph
import Layers
import Likelihood
import Testing

@testable import Models

private func bindings(_ small: SmallModel, batch: Int) -> [String: Values] {
    var result: [String: Values] = [:]
    for (name, parameter) in small.model.namedParameters() {
        let value = parameter.initialValue(named: name, seed: 3)
        result[parameter.label] = Values(
            shape: value.shape, elements: value.doubles.map { name.hasSuffix("gain") ? $0 : $0 * 1.7 })
    }
    for (name, array) in RandomSource.feeds(seed: 11, examples: Array(0..<batch)) {
        result[name] = Values(shape: array.shape, elements: array.doubles)
    }
    if let classes = small.model.conditions.classes {
        result["label"] = Values(shape: [batch], elements: (0..<batch).map { Double($0 % classes) })
    }
    return result
}

@Suite struct CausalModelTests {
    @Test func everyModelLooksOnlyBackwards() throws {
        for small in try smallModels() {
            #expect(throws: Never.self, "\(small.name)") {
                try small.model.proveAutoregressive(small.model.makeContext())
            }
        }
    }

    /// The compiled sampler draws what the loop over full passes draws, reads nothing that is not drawn yet (which is NaN), and
    /// its parameters are those of the full pass.
    @Test func samplersDrawWhatTheLoopDraws() throws {
        for small in try smallModels() {
            let (model, context) = (small.model, small.model.makeContext())
            let batch = 2
            let count = model.variableCount
            let x = Tensor.input("x", [.batch, Extent(count)])
            let (drawn, parameters) = model.draw(x, context)
            let program = try SamplingProgram(variable: x, drawn: drawn, order: model.order, outputs: [parameters])
            var bound = bindings(small, batch: batch)
            var machine = try SamplingInterpreter(program, batch: batch, bound)
            let results = machine.run()
            bound["x"] = results[0]
            let full = try Interpreter(batch: batch, bound).run(parameters)
            for (a, b) in zip(results[1].elements, full.elements) where !(abs(a - b) <= 1e-12 * max(1, abs(b))) {
                Issue.record("\(small.name): a parameter is \(a), the full pass gives \(b)")
                break
            }
            // The variables under the full pass are those that were drawn.
            let again = try Interpreter(batch: batch, bound).run(drawn)
            #expect(again.elements == results[0].elements, "\(small.name)")
            #expect(program.multiplyAdds > 0 && program.fullPasses == nil, "\(small.name)")
        }
    }

    /// Up to 64 observed variables are one step, whatever the model; what is drawn behind them is what a draw of all variables in turn
    /// gives that finds the same in front.
    @Test func whatIsObservedTakesOneStep() throws {
        let batch = 2
        for small in try smallModels() {
            let (model, context) = (small.model, small.model.makeContext())
            let x = model.makeInput()
            var request = DrawingRequest()
            let order = model.order
            request.observed = order.index.map { $0 < order.groupCount / 2 }
            let drawing = try model.drawing(x, context, request)
            guard case .incremental(let variable, let drawn, let own, let outputs)? = drawing.stages.first else {
                Issue.record("\(small.name) draws otherwise")
                continue
            }
            let program = try SamplingProgram(variable: variable, drawn: drawn, order: own, outputs: outputs)
            #expect(
                program.groups.count { !$0.isEmpty } == 1 + order.groupCount - order.groupCount / 2, "\(small.name)")
            var bound = bindings(small, batch: batch)
            bound[Drawing.given] = Values(
                shape: [batch, model.variableCount], elements: (0..<batch * model.variableCount).map { Double($0 % 2) })
            var machine = try SamplingInterpreter(program, batch: batch, bound)
            let results = machine.run()
            bound["x"] = results[0]
            let (expected, parameters) = model.draw(x, context)
            let again = try Interpreter(batch: batch, bound).run([expected, parameters])
            for (e, value) in results[0].elements.enumerated() {
                let isObserved = request.observed![e % model.variableCount]
                let right = isObserved ? bound[Drawing.given]!.elements[e] : again[0].elements[e]
                #expect(value == right, "\(small.name), \(e)")
            }
            #expect(
                zip(results[1].elements, again[1].elements).allSatisfy { abs($0 - $1) <= 1e-12 * max(1, abs($1)) },
                "\(small.name)")
        }
    }

    /// More of them are a step for every 64, and a sound's sampler holds no more than its steps read.
    @Test func longBeginningsTakeFewSteps() throws {
        let model = try WaveNet([1000]) {
            $0.levels = 4
            $0.residual = 4
            $0.skip = 4
            $0.stacks = 1
            $0.layers = 3
        }
        var request = DrawingRequest()
        request.observed = (0..<1000).map { $0 < 700 }
        guard
            case .incremental(let x, let drawn, let order, let outputs)? =
                try model.drawing(model.makeInput(), Context(), request).stages.first
        else {
            Issue.record("a draw that is not incremental")
            return
        }
        #expect(order.groupCount == 11 + 300)
        let program = try SamplingProgram(variable: x, drawn: drawn, order: order, outputs: outputs)
        let plain = try SamplingProgram(variable: x, drawn: model.draw(x).drawn, order: model.order)
        func kept(_ program: SamplingProgram) -> Int {
            program.values.reduce(0) { sum, value in
                if case .temporary = value.storage { sum + value.count } else { sum }
            }
        }
        // Beside what is handed back, a few hundred steps of every layer at most.
        #expect(kept(program) - kept(plain) <= 200 * 64 + 5 * 4 * 1000, "\(kept(program)) beside \(kept(plain))")
    }

    /// Without its classes or features a conditioned model would be another one, and nobody would notice.
    @Test func conditionsAreNotForgotten() throws {
        func message(_ model: any AutoregressiveModel, _ context: Context = Context()) -> String {
            let x = Tensor.input("x", [.batch, Extent(model.variableCount)])
            return model.logProbability(x, context).error?.description ?? "none"
        }
        let label = Context(label: .input("label", [.batch], .int32))
        for small in try smallModels() {
            #expect(
                message(small.model).contains("expected the class of each example")
                    == (small.model.conditions.classes != nil),
                "\(small.name)")
            #expect(message(small.model, small.model.makeContext()) == "none", "\(small.name)")
        }
        let plusPlus = try PixelCNNPlusPlus(ExampleShape([1, 4, 4], classes: 2)) {
            $0.channels = 4
            $0.scales = 1
            $0.blocks = 1
        }
        #expect(message(plusPlus).contains("Context(label:)"))
        #expect(message(plusPlus, label) == "none")
        let spoken = try WaveNet([6]) {
            $0.levels = 4
            $0.residual = 4
            $0.skip = 4
            $0.stacks = 1
            $0.layers = 2
            $0.localChannels = 3
        }
        #expect(message(spoken).contains("Context(features:)"))
        #expect(message(spoken, Context(features: .input("features", [.batch, 3, 6]))) == "none")
        #expect(message(spoken, Context(features: .input("features", [.batch, 2, 6]))).contains("[batch, 3, 6]"))
        #expect(throws: GraphError.self) { try plusPlus.proveAutoregressive(Context()) }
        // What is wrong with x is said first.
        let wrong = Tensor.input("x", [.batch, 4]) + .input("y", [.batch, 3])
        #expect(ConditionEmbedding(classes: 2, 4)?(wrong, label).error == wrong.error)
    }

    /// Of each example other maps are left out, whole; the others are scaled up. Without noise nothing is.
    @Test func dropoutTakesWholeMaps() throws {
        let (batch, channels, pixels) = (6, 8, 9)
        let x = Tensor.input("x", [.batch, Extent(channels), 3, 3])
        let dropout = Dropout(0.5, stream: 1, takesMaps: true)
        var bound = RandomSource.feeds(seed: 3, examples: Array(0..<batch)).mapValues {
            Values(shape: $0.shape, elements: $0.doubles)
        }
        bound["x"] = Values(
            shape: [batch, channels, 3, 3], elements: [Double](repeating: 1.5, count: batch * channels * pixels))
        let dropped = dropout(x, Context(.train))
        let found = try Interpreter(batch: batch, bound).run(dropped).elements
        let maps = stride(from: 0, to: found.count, by: pixels).map { Array(found[$0..<$0 + pixels]) }
        #expect(maps.allSatisfy { map in map.allSatisfy { $0 == map[0] } && [0, 3].contains(map[0]) })
        #expect(Set(maps.map { $0[0] }).count == 2)
        let examples = stride(from: 0, to: maps.count, by: channels).map { maps[$0..<$0 + channels].map { $0[0] } }
        #expect(Set(examples).count > 1)
        #expect(dropout(x, Context()) == x)
    }

    /// A dilated convolution keeps as many steps as its dilation spans: memory does not grow with the length.
    @Test func samplersKeepWhatIsStillRead() throws {
        func elements(steps: Int) throws -> Int {
            let model = try WaveNet(ExampleShape([steps])) {
                $0.levels = 8
                $0.residual = 4
                $0.skip = 6
                $0.stacks = 1
                $0.layers = 4
            }
            let x = Tensor.input("x", [.batch, Extent(steps)])
            let (drawn, parameters) = model.draw(x)
            let program = try SamplingProgram(variable: x, drawn: drawn, order: model.order, outputs: [parameters])
            return program.values.indices.reduce(0) { total, id in
                guard case .temporary = program.values[id].storage, !program.outputs.contains(where: { $0.value == id })
                else { return total }
                return total + program.values[id].count
            }
        }
        let (short, long) = (try elements(steps: 50), try elements(steps: 400))
        // Values of one channel, the noise of every step say, are kept.
        #expect(long - short < 350 * 10, "\(short), \(long)")
    }

    /// A layer that reads its own row without mask B's leave, or a right half that is not moved down, is refused with its line.
    @Test func recurrentMutantsAreRefused() throws {
        func proof(_ logits: (_ maps: Tensor) -> Tensor) throws {
            let x = Tensor.input("x", [.batch, 16])
            let first = ConvolutionLayer.masked(.a, 1, 2, kernel: 3)
            let tensor = logits(first(x.reshaped([.batch, 1, 4, 4]))).reshaped([.batch, 16])
            _ = try AutoregressiveProof(
                [ConditionalParameters("logits", tensor, variables: (0..<16).map { Int32($0) })], of: x,
                order: .natural(16))
        }
        func leak(_ logits: (_ maps: Tensor) -> Tensor) -> DependencyLeak? {
            #expect(throws: DependencyLeak.self) { try proof(logits) }
        }
        let zero = Tensor.scalar(0).broadcast(to: [.batch, 1, 4])
        let (own, above) = (ConvolutionLayer(2, 1, kernel: [1, 3]), ConvolutionLayer(1, 1, kernel: [3]))
        let rows = leak { maps in
            Tensor.scan([zero], over: [own(maps).transposed([2, 0, 1, 3])]) { carries, slices in
                let h = (slices[0] + above(carries[0])).tanh()
                return ([h], [h])
            }.outputs[0].transposed([1, 2, 0, 3])
        }
        #expect(rows?.path.contains { $0.hasPrefix("convolution") && $0.contains("CausalModelTests.swift") } == true)
        let layer = DiagonalBiLSTM(2, 1)
        #expect(throws: Never.self) { try proof { layer($0, $0) } }
        let right = leak { maps in
            let halves = layer.halves(maps, maps)
            return halves.left + halves.right
        }
        #expect(right?.path.contains { $0.contains("PixelRNN.swift") } == true)
    }

    /// PixelCNN's blind spot on 8x8 and that Gated PixelCNN has none (van den Oord et al. 2016b, figure 1).
    @Test func blindSpots() throws {
        let plain = try PixelCNN([1, 8, 8]) { $0.channels = 4 }
        let pairs = try #require(try plain.proveAutoregressive().dependencies)
        #expect(pairs.allowed == 2016 && pairs.present == 2016 - 125)
        let gated = try GatedPixelCNN([1, 8, 8]) {
            $0.channels = 4
            $0.blocks = 7
            $0.headChannels = 4
        }
        let all = try #require(try gated.proveAutoregressive().dependencies)
        #expect(all.allowed == 2016 && all.present == 2016)
    }

    /// What a PixelRNN's pixel reads on 8x8: all that is past by the diagonals, a triangle of the rows above by the rows (van den Oord et
    /// al. 2016, figure 4), which the convolution in front of them makes wider.
    @Test func recurrentFields() throws {
        func model(_ layer: PixelRNN.Layer) throws -> PixelRNN {
            try PixelRNN([1, 8, 8]) {
                $0.layer = layer
                $0.units = 2
                $0.headChannels = 2
            }
        }
        let diagonal = try #require(try model(.diagonalBiLSTM).proveAutoregressive().dependencies)
        #expect(diagonal.allowed == 2016 && diagonal.present == 2016)
        let rows = try model(.rowLSTM)
        let x = rows.makeInput()
        let output = try #require(try rows.dependencies(x, Context())?.output)
        let read = try #require(try Graph.Dependencies([output]).reach(from: output, element: 7 * 8)[x])
        // The convolution reads three pixels to each side in the rows above, the state a pixel more with every row.
        for row in 0..<8 {
            let last = row == 7 ? -1 : min(7, 9 - row)
            #expect((0..<8).map { read[row * 8 + $0] } == (0..<8).map { $0 <= last }, "row \(row)")
        }
    }

    /// Sums over all 512 binary images of 3x3.
    @Test func imagesSumToOne() throws {
        let models: [any AutoregressiveModel] = [
            try PixelCNN([1, 3, 3]) {
                $0.channels = 6
                $0.blocks = 2
            },
            try GatedPixelCNN([1, 3, 3]) {
                $0.channels = 6
                $0.blocks = 2
                $0.headChannels = 4
            },
            try RecurrentModel([1, 3, 3]) { $0.units = 4 },
            try PixelRNN([1, 3, 3]) {
                $0.layer = .rowLSTM
                $0.units = 2
                $0.headChannels = 3
            },
            try PixelRNN([1, 3, 3]) {
                $0.units = 2
                $0.headChannels = 3
            },
        ]
        for model in models {
            let x = Tensor.input("x", [.batch, 9])
            var bound = bindings(SmallModel(name: "", model: model), batch: 512)
            bound["x"] = Values(
                shape: [512, 9], elements: (0..<512).flatMap { code in (0..<9).map { Double(code >> $0 & 1) } })
            let logs = try Interpreter(batch: 512, bound).run(model.logProbability(x)).elements
            #expect(abs(logs.reduce(0) { $0 + Math.exp($1) } - 1) < 1e-10)
        }
    }

    /// Discretized logistics sum to one over their 256 values, for log scales from -7 to 5 and means beyond the ends.
    @Test func discretizedLogisticsSumToOne() throws {
        let mixture = DiscretizedLogisticMixture(levels: 256, components: 2)
        for logScale in stride(from: -7.0, through: 5.0, by: 0.5) {
            for mean in [-1.3, -1, -0.5, 0.0037, 0.9, 1, 1.2] {
                let x = Tensor.input("x", [.batch, 1])
                let parameters = Tensor.constant(
                    HostArray([0.3, -0.4, mean, mean / 2, logScale, 0.5] as [Double], shape: [1, 6, 1])
                )
                .cast(to: .float32).broadcast(to: [.batch, 6, 1])
                let values = Values(shape: [256, 1], elements: (0..<256).map { Double($0) })
                let logs = try Interpreter(batch: 256, ["x": values]).run(mixture.logProbability(x, parameters))
                    .elements
                let total = logs.reduce(0) { $0 + Math.exp($1) }
                #expect(abs(total - 1) < 1e-7, "log scale \(logScale), mean \(mean): \(total)")
            }
        }
    }

    /// Gradients of whole models against finite differences in double precision.
    @Test func gradientsOfWholeModels() throws {
        for small in try smallModels() {
            let model = small.model
            let batch = 2
            let x = Tensor.input("x", [.batch, Extent(model.variableCount)])
            let loss = model.logProbability(x, small.model.makeContext()).sum()
            let named = model.namedParameters()
            let grads = try gradients(of: loss, with: named.map(\.parameter.tensor))
            var bound = bindings(small, batch: batch)
            bound["x"] = Values(
                shape: [batch, model.variableCount],
                elements: (0..<batch * model.variableCount).map { Double($0 * 7 % 2) })
            for (index, (name, parameter)) in named.enumerated() {
                let exact = try Interpreter(batch: batch, bound).run(grads[index]).elements
                let original = bound[parameter.label]!
                let e = parameter.shape.reduce(1, *) / 2
                func at(_ shift: Double) throws -> Double {
                    bound[parameter.label]!.elements[e] = original.elements[e] + shift
                    defer { bound[parameter.label] = original }
                    return try Interpreter(batch: batch, bound).run(loss).elements[0]
                }
                // A dead weight has no gradient, whatever it is.
                if parameter.mask?.isDead(e, shape: parameter.shape) == true {
                    #expect(exact[e] == 0)
                    continue
                }
                let h = 1e-5
                let slope = (try at(h) - at(-h)) / (2 * h)
                #expect(abs(slope - exact[e]) <= 1e-5 * max(1, abs(exact[e])), "\(small.name), \(name)")
            }
        }
    }
}
