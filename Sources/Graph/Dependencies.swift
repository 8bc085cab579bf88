/// Which elements each element of a graph's tensors is computed from, read off the operations' dependency rules without
/// running anything. Exact up to numerical cancellation.
public struct Dependencies {
    public let batch: Int
    /// Inputs before users.
    public let nodes: [Node]
    private var knownValues: [Tensor: KnownValues] = [:]
    private var relations: [Tensor: [Relation]] = [:]
    /// The rules of the bodies of scans, whose steps are told apart.
    private var loops: [ObjectIdentifier: LoopRules] = [:]
    /// For each output that was asked for, the same tensor in the graph whose rules are read (`stepwise`).
    private let prepared: [Tensor: Tensor]

    /// Reads the rules of every node that `outputs` reach, with `batch` examples in the batch.
    /// - Throws: `GraphError` if the graph is invalid, or an operation has no rule for some of its inputs.
    public init(_ outputs: [Tensor], batch: Int = 1) throws(GraphError) {
        for output in outputs { _ = try output.validated() }
        let tensors = stepwise(outputs)
        try self.init(
            tensors, batch: batch, prepared: Dictionary(zip(outputs, tensors), uniquingKeysWith: { first, _ in first }),
            known: [:])
    }

    /// The rules of a loop's body.
    /// - Parameter known: what is known of the values of some of its placeholders.
    init(body outputs: [Tensor], batch: Int, known: [Tensor: KnownValues]) throws(GraphError) {
        try self.init(outputs, batch: batch, prepared: [:], known: known)
    }

    private init(
        _ outputs: [Tensor], batch: Int, prepared: [Tensor: Tensor], known: [Tensor: KnownValues]
    ) throws(GraphError) {
        self.batch = batch
        self.prepared = prepared
        nodes = topologicalOrder(outputs)
        knownValues = known
        let hasLoops = nodes.contains { $0.stepwiseLoop != nil }
        let read = hasLoops ? Set(outputs).union(nodes.flatMap(\.inputs)) : []
        for node in nodes {
            if let loop = node.stepwiseLoop {
                loops[ObjectIdentifier(node)] = try LoopRules(
                    loop, inputs: node.inputs.map { knownValues[$0] },
                    isRead: node.types.indices.map { read.contains(Tensor(node, $0)) }, batch: batch)
                continue
            }
            for index in node.types.indices where knownValues[Tensor(node, index)] == nil {
                let context = context(node, index)
                if let known = node.operation.knownValues(context) { knownValues[Tensor(node, index)] = known }
                let rules = node.operation.relations(context)
                // An input without a rule would count as one that nothing reads.
                guard rules.count == node.inputs.count else {
                    throw GraphError(
                        operation: node.operation.name,
                        message:
                            "expected a relation for each of its \(node.inputs.count) inputs, found \(rules.count); "
                            + "`.none` says that an input is not read", location: node.location)
                }
                relations[Tensor(node, index)] = rules
            }
        }
    }

    private func context(_ node: Node, _ index: Int) -> RelationContext {
        RelationContext(
            inputs: node.inputs, inputShapes: node.inputs.map { $0.shape.resolved(batch: batch) },
            outputShape: node.types[index].shape.resolved(batch: batch), output: index,
            knownValues: node.inputs.map { knownValues[$0] }, batch: batch)
    }

    /// Elements of all tensors, those of every step of a loop included.
    var elementCount: Int {
        nodes.reduce(0) { sum, node in
            sum + node.types.indices.reduce(0) { $0 + count(Tensor(node, $1)) }
                + (loops[ObjectIdentifier(node)]?.elementCount ?? 0)
        }
    }

    public func count(_ tensor: Tensor) -> Int { tensor.shape.count.resolved(batch: batch) }

    /// The elements of a tensor whose values never vary; `nil` if there are none.
    public func knownValues(_ tensor: Tensor) -> KnownValues? { knownValues[prepared[tensor] ?? tensor] }

    /// One relation for each input of the tensor's node; those of a scan do not tell its steps apart.
    public func relations(_ tensor: Tensor) -> [Relation] {
        let tensor = prepared[tensor] ?? tensor
        if let relations = relations[tensor] { return relations }
        return loops[ObjectIdentifier(tensor.node)] == nil
            ? [] : tensor.node.operation.relations(context(tensor.node, tensor.index))
    }

    /// What degrees that are known when a program runs carry from a layer's inputs to its outputs.
    public typealias DegreeRule<V> = (
        _ input: [V], _ inDegrees: Tensor, _ outDegrees: Tensor, _ strict: Bool, _ width: Int
    ) -> [V]

    /// Carries a value along every dependency: `seeds` says what some tensors' elements start with, every other element is
    /// the combination of what it reads.
    public func propagate<V: Equatable>(
        _ seeds: [Tensor: [V]], none: V, combine: (inout V, V) -> Void, degrees: DegreeRule<V>? = nil
    ) -> [Tensor: [V]] {
        propagate(seeds, none: none, shift: nil, combine: combine, degrees: degrees)
    }

    func propagate<V: Equatable>(
        _ seeds: [Tensor: [V]], none: V, shift: ValueShift<V>?, combine: (inout V, V) -> Void, degrees: DegreeRule<V>?
    ) -> [Tensor: [V]] {
        var values = seeds
        // Placeholders of one name have one value, even if they are several nodes.
        for tensor in nodes.map({ Tensor($0) }) where seeds[tensor] == nil && tensor.placeholder != nil {
            values[tensor] = seeds.first { $0.key.placeholder == tensor.placeholder }?.value
        }
        for node in nodes {
            if let rules = loops[ObjectIdentifier(node)] {
                let results = rules.propagate(
                    node.inputs.map { values[$0] }, none: none, shift: shift, combine: combine, degrees: degrees)
                for (index, result) in results.enumerated() {
                    if let result { values[Tensor(node, index)] = result }
                }
                continue
            }
            for index in node.types.indices where seeds[Tensor(node, index)] == nil {
                let tensor = Tensor(node, index)
                var result: [V]?
                for (input, relation) in zip(node.inputs, relations[tensor] ?? []) {
                    guard let source = values[input] else { continue }
                    var target = result ?? [V](repeating: none, count: count(tensor))
                    if case .degrees(let inDegrees, let outDegrees, let strict) = relation, let degrees {
                        let read = degrees(source, inDegrees, outDegrees, strict, count(outDegrees))
                        for e in target.indices { combine(&target[e], read[e]) }
                    } else {
                        relation.gather(source, into: &target, none: none, combine: combine)
                    }
                    result = target
                }
                // A tensor that reads nothing of the seeds has no entry.
                if let result { values[tensor] = result }
            }
        }
        for (output, tensor) in prepared where output != tensor { values[output] = values[tensor] }
        return values
    }

    /// The levels of the tensors in the steps of a loop.
    /// - Parameter levels: of the tensors around it.
    package func stepLevels(_ node: Node, _ levels: [Tensor: [Int32]]) -> StepKinds<Int32>? {
        var found: StepKinds<Int32>?
        _ = loops[ObjectIdentifier(node)]?.propagate(
            node.inputs.map { levels[$0] }, none: -1, shift: .levels, combine: { $0 = Swift.max($0, $1) }, degrees: nil,
            recorded: { found = $0 })
        return found
    }

    /// Which elements of the tensors in the steps of a loop are read.
    /// - Parameter marks: of the tensors around it.
    package func stepReach(_ node: Node, _ marks: [Tensor: [Bool]]) -> StepKinds<Bool>? {
        var found: StepKinds<Bool>?
        _ = loops[ObjectIdentifier(node)]?.reach(
            node.types.indices.map { marks[Tensor(node, $0)] }, recorded: { found = $0 })
        return found
    }

    /// Whether there are operations that make channels together (convolutions).
    package var hasChannels: Bool {
        nodes.contains { node in
            node.operation.channelKinds(node.inputs.map(\.type)) != nil
                || loops[ObjectIdentifier(node)]?.body.hasChannels == true
        }
    }

    /// The rules of a loop's body.
    package func body(of node: Node) -> Dependencies? { loops[ObjectIdentifier(node)]?.body }

    /// For every tensor the latest order index that each element reads, -1 where it reads no variable; tensors that do not
    /// depend on `variable` are absent.
    /// - Parameter order: the order index of each element of `variable`.
    public func levels(of variable: Tensor, order: [Int32]) -> [Tensor: [Int32]] {
        propagate(
            [variable: order], none: -1, shift: .levels, combine: { $0 = Swift.max($0, $1) }, degrees: nil)
    }

    /// The example that each element belongs to, in a batch of two: one bit for each. Nil where there is no batch axis.
    package func examples(_ tensor: Tensor) -> [UInt8]? {
        guard let axis = tensor.shape.batchAxis else { return nil }
        let shape = tensor.shape.resolved(batch: 2)
        // The batch is the slower factor of its axis.
        let half = shape[axis...].reduce(1, *) / 2
        return (0..<shape.reduce(1, *)).map { UInt8(1 << ($0 / half % 2)) }
    }

    /// The examples of some tensors that each element of every tensor reads, in a batch of two.
    package func examplesRead(of tensors: [Tensor]) -> [Tensor: [UInt8]] {
        let own = tensors.compactMap { tensor in examples(tensor).map { (tensor, $0) } }
        return propagate(
            Dictionary(own, uniquingKeysWith: { first, _ in first }), none: 0, combine: { $0 |= $1 })
    }

    /// Which elements of every tensor one element of `tensor` is computed from.
    public func reach(from tensor: Tensor, element: Int) -> [Tensor: [Bool]] {
        reach([tensor: (0..<count(tensor)).map { $0 == element }])
    }

    /// Which elements of every tensor all elements of some tensors are computed from.
    public func reach(from tensors: [Tensor]) -> [Tensor: [Bool]] {
        reach(
            Dictionary(tensors.map { ($0, [Bool](repeating: true, count: count($0))) }, uniquingKeysWith: { a, _ in a })
        )
    }

    /// Which elements of every tensor the marked elements of some tensors are computed from.
    public func reach(_ seeds: [Tensor: [Bool]]) -> [Tensor: [Bool]] {
        var marks = Dictionary(
            seeds.map { (prepared[$0] ?? $0, $1) }, uniquingKeysWith: { a, b in zip(a, b).map { $0 || $1 } })
        for node in nodes.reversed() {
            if let rules = loops[ObjectIdentifier(node)] {
                let own = node.types.indices.map { marks[Tensor(node, $0)] }
                guard own.contains(where: { $0 != nil }) else { continue }
                for (input, read) in zip(node.inputs, rules.reach(own)) {
                    guard let read else { continue }
                    marks[input] = marks[input].map { zip($0, read).map { $0 || $1 } } ?? read
                }
                continue
            }
            for index in node.types.indices {
                let tensor = Tensor(node, index)
                guard let mine = marks[tensor] else { continue }
                for (input, relation) in zip(node.inputs, relations[tensor] ?? []) {
                    var target = marks[input] ?? [Bool](repeating: false, count: count(input))
                    relation.scatter(mine, into: &target)
                    marks[input] = target
                }
            }
        }
        return marks
    }

    /// `result[o, i]` is set where output element `o` may depend on element `i` of `variable`.
    public func structuralJacobian(of output: Tensor, variable: Tensor) -> BitMatrix {
        let width = count(variable)
        let words = (width + 63) / 64
        let seed = (0..<width).map { i in
            var row = [UInt64](repeating: 0, count: words)
            row[i >> 6] = 1 << UInt64(i & 63)
            return row
        }
        let rows = propagate(
            [variable: seed], none: [UInt64](),
            combine: { a, b in
                if a.isEmpty { a = b } else { for w in b.indices { a[w] |= b[w] } }
            })[output]
        return BitMatrix(rows: count(output), columns: width) { o, i in
            guard let row = rows?[o], !row.isEmpty else { return false }
            return row[i >> 6] >> UInt64(i & 63) & 1 == 1
        }
    }
}

extension Relation {
    /// `target[o] = combine(target[o], source[i])` for every `i` that `o` reads.
    func gather<V>(_ source: [V], into target: inout [V], none: V, combine: (inout V, V) -> Void) {
        switch self {
        case .none: break
        case .same:
            for e in target.indices { combine(&target[e], source[e]) }
        case .table(let table):
            for e in target.indices where table[e] >= 0 { combine(&target[e], source[Int(table[e])]) }
        case .lines(let input, let output, let count):
            var lines = [V](repeating: none, count: count)
            for i in source.indices where input[i] >= 0 { combine(&lines[Int(input[i])], source[i]) }
            for e in target.indices { combine(&target[e], lines[Int(output[e])]) }
        case .rows(let outer, let rows, let inputCount, let inner):
            for r in 0..<outer {
                for c in 0..<inner {
                    // Where rows are prefixes of one another, as those of causal masks are, each goes on from the one before.
                    var (sum, read) = (none, 0..<0)
                    for (o, ranges) in rows.enumerated() {
                        let e = (r * rows.count + o) * inner + c
                        guard ranges.count == 1, let range = ranges.first else {
                            for range in ranges {
                                for i in range { combine(&target[e], source[(r * inputCount + i) * inner + c]) }
                            }
                            continue
                        }
                        if range.lowerBound != read.lowerBound || range.upperBound < read.upperBound {
                            (sum, read) = (none, range.lowerBound..<range.lowerBound)
                        }
                        for i in read.upperBound..<range.upperBound {
                            combine(&sum, source[(r * inputCount + i) * inner + c])
                        }
                        read = range
                        combine(&target[e], sum)
                    }
                }
            }
        case .window(let window): window.gather(source, into: &target, none: none, combine: combine)
        case .degrees(let inDegrees, let outDegrees, _):
            // Without knowing the degrees every feature may read every other of its row.
            let (inputs, outputs) = (inDegrees.shape.count.coefficient, outDegrees.shape.count.coefficient)
            Relation.rows(
                outer: source.count / Swift.max(1, inputs),
                rows: [[Range<Int>]](repeating: [0..<inputs], count: outputs),
                inputCount: inputs, inner: 1
            ).gather(source, into: &target, none: none, combine: combine)
        case .union(let relations):
            for relation in relations { relation.gather(source, into: &target, none: none, combine: combine) }
        case .chain(let first, let count, let last):
            var between = [V](repeating: none, count: count)
            first.gather(source, into: &between, none: none, combine: combine)
            last.gather(between, into: &target, none: none, combine: combine)
        }
    }

    /// Marks every input that a marked output reads.
    func scatter(_ outputs: [Bool], into inputs: inout [Bool]) {
        switch self {
        case .same: for e in outputs.indices where outputs[e] { inputs[e] = true }
        case .table(let table):
            for e in outputs.indices where outputs[e] && table[e] >= 0 { inputs[Int(table[e])] = true }
        case .rows(let outer, let rows, let inputCount, let inner):
            for r in 0..<outer {
                for c in 0..<inner {
                    // From the last row on: those before it are often prefixes of it, and then mark nothing more.
                    var marked = 0..<0
                    for (o, ranges) in rows.enumerated().reversed() where outputs[(r * rows.count + o) * inner + c] {
                        for range in ranges
                        where !(marked.lowerBound <= range.lowerBound && range.upperBound <= marked.upperBound) {
                            for i in range { inputs[(r * inputCount + i) * inner + c] = true }
                            if range.count > marked.count { marked = range }
                        }
                    }
                }
            }
        case .lines(let input, let output, let count):
            var lines = [Bool](repeating: false, count: count)
            for e in outputs.indices where outputs[e] { lines[Int(output[e])] = true }
            for i in inputs.indices where input[i] >= 0 && lines[Int(input[i])] { inputs[i] = true }
        case .window(let window): window.scatter(outputs, into: &inputs)
        case .chain(let first, let count, let last):
            var between = [Bool](repeating: false, count: count)
            last.scatter(outputs, into: &between)
            first.scatter(between, into: &inputs)
        default:
            for e in outputs.indices where outputs[e] {
                forEachSource(of: e, inputCount: inputs.count) { inputs[$0] = true }
            }
        }
    }

    /// Calls `body` with every input that output `element` reads.
    public func forEachSource(of element: Int, inputCount total: Int, _ body: (Int) -> Void) {
        switch self {
        case .none: break
        case .same: body(element)
        case .table(let table): if table[element] >= 0 { body(Int(table[element])) }
        case .lines(let input, let output, _):
            for i in input.indices where input[i] >= 0 && input[i] == output[element] { body(i) }
        case .rows(_, let rows, let inputCount, let inner):
            let (r, o, c) = (element / (rows.count * inner), element / inner % rows.count, element % inner)
            for range in rows[o] { for i in range { body((r * inputCount + i) * inner + c) } }
        case .window(let window): window.forEachSource(of: element, body)
        case .degrees(let inDegrees, let outDegrees, _):
            let (inputs, outputs) = (inDegrees.shape.count.coefficient, outDegrees.shape.count.coefficient)
            for i in 0..<inputs { body(element / outputs * inputs + i) }
        case .union(let relations):
            for relation in relations { relation.forEachSource(of: element, inputCount: total, body) }
        case .chain(let first, let count, let last):
            last.forEachSource(of: element, inputCount: count) { between in
                first.forEachSource(of: between, inputCount: total, body)
            }
        }
    }
}
