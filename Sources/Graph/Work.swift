/// The multiply-adds of an application of an operation: `sum += a * b` counts one.
public struct Work: Hashable, Sendable {
    /// What a kernel would do that takes masks for numbers and triangles for squares.
    public var dense: Int
    /// What is left where the structure is known: live weights only, one triangle only. Equal to `dense` where no structure is known
    /// before the program runs.
    public var live: Int

    public init(dense: Int, live: Int) {
        self.dense = dense
        self.live = live
    }

    /// Of an operation that has no structure to profit from.
    public init(_ count: Int) { self.init(dense: count, live: count) }

    public static func + (a: Work, b: Work) -> Work { Work(dense: a.dense + b.dense, live: a.live + b.live) }
    public static func * (work: Work, times: Int) -> Work { Work(dense: work.dense * times, live: work.live * times) }
}

/// One entry of the list of a graph's sums of products: a layer's weight with all that is multiplied by it, or a product of two
/// tensors that both come from the examples, as attention's scores do.
public struct Contraction: Sendable {
    /// The degrees of a masked product's inputs and outputs: weight `[o, i]` is live where `input[i] <= output[o]`, or `<` if strict.
    public struct Degrees: Hashable, Sendable {
        public var input: [Int32]
        public var output: [Int32]
        public var isStrict: Bool
    }

    /// The name of the operation that was met first.
    public var operation: String
    /// The state (a parameter) that the weight is, or is made from: of several (a normalised weight's direction and gain, the factors
    /// of a matrix) the first one of those with the most elements. Nil where no operand is made from states alone.
    public var weight: Tensor?
    /// The extents of `weight`; of the operand itself where that has another number of elements (weights side by side in one
    /// product) or where there is no weight, and then with one example in the batch.
    public var shape: [Int]
    /// Multiply-adds of all uses.
    public var work: Work
    /// How many applications there are, the body of a loop counted once.
    public var uses: Int
    public var location: SourceLocation?
    /// Of a masked product whose degrees are constant, and the same in all uses.
    public var degrees: Degrees?

    public var dense: Int { work.dense }
    public var live: Int { work.live }
}

/// The multiply-adds of some tensors, layer by layer: every operation that has some and works on examples, in the order of the graph.
///
///     let x = Tensor.input("x", [.batch, 784])
///     for layer in contractions(of: [model.logProbability(x)]) {
///         print(layer.operation, layer.shape, layer.live, layer.dense)
///     }
///
/// What is computed from weights alone (the inverse of a 1x1 convolution's matrix) is not work of an example and is left out. Equal
/// applications count once, since they are computed once. The uses of one parameter make one entry, where the first of them stands;
/// so do products without a parameter that one line of the source made. The body of a scan counts once for each step, the body of an
/// iteration, of which only the running program knows how often it runs, once. A sum, or a running sum, of an example's values times a
/// parameter's is a product of matrices in other words, and counts as one: `(x * weight).sum(axes: [1])`.
///
/// - Parameter batch: how many examples the batch holds; counts of one example if not given.
public func contractions(of outputs: [Tensor], batch: Int = 1) -> [Contraction] {
    enum Key: Hashable {
        case weight(String)
        case place(String, SourceLocation)
    }
    var result: [Contraction] = []
    var places: [Key: Int] = [:]
    for application in applications(of: outputs) where application.isOfExamples {
        guard let work = application.multiplyAdds(batch: batch) ?? application.summedProducts(batch: batch) else {
            continue
        }
        let found = application.contraction(work)
        let key: Key? =
            if let label = found.weight?.placeholder?.label { .weight(label) } else {
                found.location.map { .place(found.operation, $0) }
            }
        guard let key, let place = places[key] else {
            if let key { places[key] = result.count }
            result.append(found)
            continue
        }
        result[place].work = result[place].work + work
        result[place].uses += 1
        if result[place].degrees != found.degrees { result[place].degrees = nil }
    }
    return result
}

/// One of the applications that a graph is made of, those in the bodies of loops among them.
package struct Application {
    package let node: Node
    /// How often a run carries it out: the steps of the loops around it.
    package let times: Int
    /// For each operand whether it is computed from examples.
    package let readsExamples: [Bool]
    /// Of a sum of products of an example's values and a parameter's: the product.
    fileprivate let product: (node: Node, readsExamples: [Bool])?

    /// Whether a run does it for the examples it is given, and not once for all.
    package var isOfExamples: Bool {
        readsExamples.contains(true) || (node.types + node.inputs.map(\.type)).contains(where: \.shape.isBatched)
    }

    /// Of all times it is carried out.
    package func multiplyAdds(batch: Int) -> Work? {
        node.operation.multiplyAdds(node.inputs.map(\.type), node.types, batch: batch).map { $0 * times }
    }

    /// Elements of exp, log, tanh and their like, of all times it is carried out.
    package func exps(batch: Int) -> Int {
        node.operation.allExps(node.inputs.map(\.type), node.types, batch: batch) * times
    }

    /// The multiply-adds of a sum of products.
    fileprivate func summedProducts(batch: Int) -> Work? {
        product.map { Work($0.node.types[0].shape.count.resolved(batch: batch)) * times }
    }

    fileprivate func contraction(_ work: Work) -> Contraction {
        let (node, readsExamples) = (product?.node ?? node, product?.readsExamples ?? readsExamples)
        var result = Contraction(
            operation: node.operation.name, weight: nil, shape: [], work: work, uses: 1, location: node.location,
            degrees: nil)
        // The operands behind the first two are degrees.
        let factors = node.inputs.indices.prefix(2)
        let fixed = factors.filter { !readsExamples[$0] }
        // The second first: what stands in front may be the state that a recurrent network starts from.
        for operand in fixed.reversed() where result.weight == nil {
            let states = topologicalOrder([node.inputs[operand]]).map { Tensor($0) }.filter {
                $0.placeholder?.role == .state
            }
            guard let most = states.map(\.count).max() else { continue }
            result.weight = states.first { $0.count == most }
            result.shape = node.inputs[operand].shape.resolved(batch: 1)
        }
        if let weight = result.weight {
            if weight.count == result.shape.reduce(1, *) { result.shape = weight.shape.resolved(batch: 1) }
        } else {
            result.shape = node.inputs[fixed.last ?? factors.last ?? 0].shape.resolved(batch: 1)
        }
        if case .degrees(let input, let output, let strict) = (node.operation as? MaskedProduct)?.mask {
            result.degrees = Contraction.Degrees(input: input, output: output, isStrict: strict)
        }
        return result
    }
}

extension Operation {
    /// The exps of an application, of elementwise functions too.
    package func allExps(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Int {
        guard case .elementwise(let function) = compilerRole, case .transcendental = function.cost else {
            return exps(inputs, batch: batch)
        }
        return outputs[0].shape.count.resolved(batch: batch)
    }
}

extension Tensor {
    fileprivate var count: Int { shape.count.resolved(batch: 1) }
}

/// Every application that some tensors are computed by, inputs before users. Equal ones stand for each other, and a loop for its
/// body, written out in its place.
package func applications(of outputs: [Tensor]) -> [Application] {
    var walk = ApplicationWalk(outputs)
    walk.visit(outputs, times: 1)
    return walk.found
}

private struct ApplicationWalk {
    private(set) var found: [Application] = []
    private struct Key: Hashable {
        let operation: AnyHashable
        let inputs: [Tensor]
    }
    /// The first tensor that is equal to each; it also keeps the nodes alive that `done` knows by their addresses.
    private var first: [Tensor: Tensor] = [:]
    private var known: [Key: Node] = [:]
    private var done = Set<ObjectIdentifier>()
    private var ofExamples = Set<ObjectIdentifier>()
    /// Whether examples are what is fed with a batch axis, so that other inputs (a step, a seed) are none; without one every
    /// input may be an example.
    private let hasBatch: Bool

    init(_ outputs: [Tensor]) {
        hasBatch = topologicalOrder(outputs).contains {
            Tensor($0).placeholder?.role == .input && $0.types[0].shape.isBatched
        }
    }

    mutating func visit(_ outputs: [Tensor], times: Int) {
        let nodes = topologicalOrder(outputs)
        let read = Set(nodes.flatMap(\.inputs) + outputs)
        for node in nodes where node.error == nil && done.insert(ObjectIdentifier(node)).inserted {
            let inputs = node.inputs.map { first[$0] ?? $0 }
            var original = node
            if let key = node.operation.key.map({ Key(operation: $0, inputs: inputs) }) {
                original = known[key] ?? node
                known[key] = original
            }
            for index in node.types.indices { first[Tensor(node, index)] = Tensor(original, index) }
            guard original === node else { continue }
            let reads = inputs.map { ofExamples.contains(ObjectIdentifier($0.node)) }
            if reads.contains(true) || isExample(node) { ofExamples.insert(ObjectIdentifier(node)) }
            if case .loop(let loop) = node.compilerRole {
                let isRead = node.types.indices.map { read.contains(Tensor(node, $0)) }
                visit(loop.body(inputs, isRead: isRead), times: times * loop.repetitions)
            } else {
                found.append(
                    Application(
                        node: node, times: times, readsExamples: reads, product: summedProduct(node.operation, inputs)))
            }
        }
    }

    /// The product that a sum adds up, where one factor is of examples and the other made of parameters. A running sum may begin
    /// with what was summed before, as that of NADE does from block to block.
    private func summedProduct(_ operation: any Operation, _ inputs: [Tensor]) -> (node: Node, readsExamples: [Bool])? {
        guard (operation as? Reduction)?.kind == .sum || operation is CumulativeSum, let summed = inputs.first?.node
        else {
            return nil
        }
        let terms = summed.operation is Concatenate ? summed.inputs.map { (first[$0] ?? $0).node } : [summed]
        guard let node = terms.last(where: { $0.elementwise == .multiply }) else { return nil }
        let factors = node.inputs.map { first[$0] ?? $0 }
        let reads = factors.map { ofExamples.contains(ObjectIdentifier($0.node)) }
        guard reads[0] != reads[1],
            topologicalOrder([factors[reads[0] ? 1 : 0]]).contains(where: { Tensor($0).placeholder?.role == .state })
        else { return nil }
        return (node, reads)
    }

    private func isExample(_ node: Node) -> Bool {
        Tensor(node).placeholder?.role == .input && (node.types[0].shape.isBatched || !hasBatch)
    }
}
