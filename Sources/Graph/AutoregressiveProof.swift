/// An order of variables: a sequence of groups; a group's variables are drawn together.
public struct Order: Hashable, Sendable {
    /// The order index of each variable, counted from 0.
    public let index: [Int32]
    public let groupCount: Int

    /// - Parameter index: for each variable the position of its group.
    public init(index: [Int32]) {
        self.index = index
        groupCount = Int(index.max() ?? -1) + 1
    }

    /// Variable 0 first, then 1, and so on.
    public static func natural(_ count: Int) -> Order { Order(index: (0..<Int32(count)).map { $0 }) }

    /// The variables in the order in which they are drawn.
    public static func sequence(_ variables: [Int]) -> Order {
        var index = [Int32](repeating: 0, count: variables.count)
        for (position, variable) in variables.enumerated() { index[variable] = Int32(position) }
        return Order(index: index)
    }

    /// The variables of each group.
    public var groups: [[Int]] {
        var result = [[Int]](repeating: [], count: groupCount)
        for (variable, position) in index.enumerated() { result[Int(position)].append(variable) }
        return result
    }
}

/// The parameters of some conditionals: element `e` of `tensor` (of one example) belongs to `p(x[variables[e]] | ..)`.
public struct ConditionalParameters: Sendable {
    public let name: String
    public let tensor: Tensor
    public let variables: [Int32]

    public init(_ name: String, _ tensor: Tensor, variables: [Int32]) {
        self.name = name
        self.tensor = tensor
        self.variables = variables
    }
}

/// Why a model is not autoregressive: an element that reads a variable that it must not read, and the path between the
/// two.
public struct DependencyLeak: Error, Sendable, CustomStringConvertible {
    /// `logits[5] depends on x[5] through ...`
    public let description: String
    /// The operations from the parameter back to the variable, each with the place where it was written.
    public let path: [String]
}

/// A proof that every conditional reads only variables that come before its own.
public struct AutoregressiveProof: Sendable {
    /// Whether degrees were compared as graph values, being known only at run time, instead of as numbers.
    public let isSymbolic: Bool
    public let variableCount: Int
    public let parameterCount: Int
    /// Pairs of a parameter element and an earlier variable that it may depend on, and how many pairs the order allows;
    /// `nil` for a symbolic proof, and where counting them would take too much memory.
    public let dependencies: (present: Int, allowed: Int)?

    /// Proves that `parameters` of the conditionals of `x` under `order` read only earlier groups, and that no example of
    /// a batch reads another.
    ///
    /// - Parameters:
    ///   - x: the variable, `[.batch, ..]`.
    ///   - degrees: the int32 graph value that holds the order when it is known at run time only; element i is the order
    ///     index of variable i. Then the comparison is of graph values, and `order` is ignored.
    /// - Throws: `DependencyLeak` with the path of the first leak; `GraphError` if the graph is invalid.
    public init(
        _ parameters: [ConditionalParameters], of x: Tensor, order: Order, degrees: Tensor? = nil
    ) throws {
        do {
            self = try Self(reading: parameters, x, order, degrees)
        } catch let leak as DependencyLeak {
            // A scan's rule takes what is known of some step's values for unknown; and the path of a leak goes through steps. So what
            // looks like a leak is looked at again with scans written out step by step, and composed operations too.
            let tensors = parameters.map(\.tensor)
            let written = unrolled(composed(tensors))
            guard written != tensors else { throw leak }
            let parameters = zip(parameters, written).map {
                ConditionalParameters($0.name, $1, variables: $0.variables)
            }
            self = try Self(reading: parameters, x, order, degrees)
        }
    }

    private init(
        reading parameters: [ConditionalParameters], _ x: Tensor, _ order: Order, _ degrees: Tensor?
    ) throws {
        let outputs = parameters.map(\.tensor)
        for output in outputs { _ = try output.validated() }
        func size(_ tensor: Tensor) -> Int { tensor.shape.count.resolved(batch: 1) }
        let count = size(x)
        variableCount = count
        parameterCount = outputs.reduce(0) { $0 + size($1) }
        for p in parameters
        where p.variables.count != size(p.tensor) || p.variables.contains(where: { $0 < 0 || $0 >= count }) {
            throw GraphError(
                operation: "proveAutoregressive",
                message:
                    "\(p.name) has \(size(p.tensor)) elements an example, but variables were named for \(p.variables.count)",
                location: p.tensor.location)
        }
        // Checked before the rules of one example are read, so that the rules of one and of two examples are not held
        // at once.
        try Self.refuseMixedExamples(parameters, x)
        let single = try Dependencies(outputs)
        if let degrees {
            isSymbolic = true
            dependencies = nil
            try Self.proveSymbolic(parameters, x, degrees, single)
            return
        }
        isSymbolic = false
        guard order.index.count == variableCount else {
            throw GraphError(
                operation: "proveAutoregressive",
                message: "the order has \(order.index.count) variables, \(x.type) has \(variableCount)",
                location: x.location)
        }
        let levels = single.levels(of: x, order: order.index)
        for p in parameters {
            guard let level = levels[p.tensor] else { continue }
            for e in level.indices where level[e] >= order.index[Int(p.variables[e])] {
                throw Self.leak(
                    p, e, x, single,
                    { tensor, element in
                        (levels[tensor]?[element] ?? -1) >= order.index[Int(p.variables[e])]
                    })
            }
        }
        var (present, allowed) = (0, 0)
        // Counting needs the whole structural Jacobian, a bit for each variable and each element on the way: for small shapes only.
        if variableCount * parameterCount <= 1 << 20, single.elementCount * ((variableCount + 63) / 64) <= 1 << 27 {
            for p in parameters {
                let jacobian = single.structuralJacobian(of: p.tensor, variable: x)
                present += jacobian.liveCount
                allowed += p.variables.reduce(0) { sum, v in sum + order.index.count { $0 < order.index[Int(v)] } }
            }
            dependencies = (present, allowed)
        } else {
            dependencies = nil
        }
    }

    /// No element of example 0 may read an element of example 1.
    private static func refuseMixedExamples(_ parameters: [ConditionalParameters], _ x: Tensor) throws {
        guard x.shape.isBatched else { return }
        let pair = try Dependencies(parameters.map(\.tensor), batch: 2)
        let reads = pair.examplesRead(of: [x])
        for p in parameters {
            guard let own = reads[p.tensor] else { continue }
            let allowed = pair.examples(p.tensor)
            for e in own.indices where own[e] & ~(allowed?[e] ?? 0) != 0 {
                throw leak(
                    p, e, x, pair, { tensor, element in (reads[tensor]?[element] ?? 0) & ~(allowed?[e] ?? 0) != 0 },
                    what: "of one example depends on another example")
            }
        }
    }

    // MARK: orders known at run time

    /// What is known of an element's level when degrees are graph values.
    private enum SymbolicLevel: Equatable {
        case none
        /// Reads variables whose degree is at most (strict: below) element `index` of the order.
        case degree(index: Int32, strict: Bool)
        case unknown

        mutating func join(_ other: SymbolicLevel) {
            switch (self, other) {
            case (.none, _): self = other
            case (_, .none): break
            case (.degree(let a, let s), .degree(let b, let t)) where a == b: self = .degree(index: a, strict: s && t)
            default: self = .unknown
            }
        }
    }

    private static func proveSymbolic(
        _ parameters: [ConditionalParameters], _ x: Tensor, _ degrees: Tensor, _ single: Dependencies
    ) throws {
        // A layer's degrees are named by the graph value that holds them, so equal names mean equal numbers. The order's own
        // elements count from 0; those of other values are numbered behind them as they are met.
        var bases: [Tensor: Int32] = [degrees: 0]
        var next = Int32(single.count(degrees))
        func names(_ tensor: Tensor) -> [Int32] {
            if let base = bases[tensor] { return (0..<Int32(single.count(tensor))).map { base + $0 } }
            if let sources = tensor.node.sources {
                let source = names(tensor.node.inputs[0])
                return sources.map { $0 < 0 ? -1 : source[Int($0)] }
            }
            bases[tensor] = next
            next += Int32(single.count(tensor))
            return names(tensor)
        }
        let seed = (0..<Int32(single.count(x))).map { SymbolicLevel.degree(index: $0, strict: false) }
        let levels = single.propagate([x: seed], none: .none, combine: { $0.join($1) }) {
            source, inDegrees, outDegrees, strict, width in
            let (inNames, outNames) = (names(inDegrees), names(outDegrees))
            var result: [SymbolicLevel] = []
            for row in 0..<source.count / Swift.max(1, inNames.count) {
                var fits = true
                var allStrict = true
                for (i, name) in inNames.enumerated() {
                    switch source[row * inNames.count + i] {
                    case .none: break
                    case .degree(let index, let s):
                        fits = fits && index == name
                        allStrict = allStrict && s
                    case .unknown: fits = false
                    }
                }
                result += outNames.map { fits ? .degree(index: $0, strict: strict || allStrict) : .unknown }
            }
            return result
        }
        for p in parameters {
            guard let level = levels[p.tensor] else { continue }
            for e in level.indices where level[e] != .none && level[e] != .degree(index: p.variables[e], strict: true) {
                throw leak(
                    p, e, x, single, { tensor, element in levels[tensor].map { $0[element] != .none } ?? false },
                    what: level[e] == .unknown
                        ? "cannot be shown to read earlier variables only: a layer's input degrees are not its predecessor's output degrees"
                        : nil, comparesFedDegrees: true)
            }
        }
    }

    // MARK: the path of a leak

    private static func leak(
        _ p: ConditionalParameters, _ element: Int, _ x: Tensor, _ dependencies: Dependencies,
        _ carries: (Tensor, Int) -> Bool,
        what: String? = nil, comparesFedDegrees: Bool = false
    ) -> DependencyLeak {
        var path: [String] = []
        var isMaskUnknown = false
        var (tensor, position) = (p.tensor, element)
        func isVariable(_ tensor: Tensor) -> Bool {
            tensor == x || tensor.placeholder != nil && tensor.placeholder == x.placeholder
        }
        while !isVariable(tensor) {
            var step: (Tensor, Int)?
            for (input, relation) in zip(tensor.node.inputs, dependencies.relations(tensor)) where step == nil {
                relation.forEachSource(of: position, inputCount: dependencies.count(input)) { source in
                    if step == nil, carries(input, source) { step = (input, source) }
                }
            }
            guard let step else { break }
            let reshapes = tensor.node.isMovement
            if !reshapes {
                path.append("\(tensor.node.operation.name)[\(position)]" + (tensor.location.map { " (\($0))" } ?? ""))
            }
            if case .runtime? = (tensor.node.operation as? MaskedProduct)?.mask { isMaskUnknown = !comparesFedDegrees }
            (tensor, position) = step
        }
        let variable = isVariable(tensor) ? position % Swift.max(1, dependencies.count(x) / dependencies.batch) : 0
        let unknown =
            "cannot be shown to read earlier variables only: a mask's degrees are fed, which no order can tell"
        let claim = what ?? (isMaskUnknown ? unknown : "depends on \(x.node.operation.name)[\(variable)]")
        return DependencyLeak(
            description:
                "\(p.name)[\(element % Swift.max(1, dependencies.count(p.tensor) / dependencies.batch))] \(claim)"
                + " through " + path.joined(separator: " <- "), path: path)
    }
}
