import Graph

/// The incremental program of a sampler: at step t the variables of group t are drawn. Each element of the tensors
/// between the variables and the draw is computed once, at the first step at which all variables that it reads have
/// been drawn.
///
/// Examples never read one another, so every value that varies with the example is laid out `[element, batch]` and any
/// slice of the batch can run the whole program on its own, without waiting for the others. What does not vary with the
/// example (weights, constants, degrees) is shared and keeps its row-major layout. Elements are those of one example.
public struct SamplingProgram: Sendable {
    public struct Value: Sendable {
        public enum Storage: Sendable {
            /// Fed: `[batch, elements]` in the API's layout when it varies with the example.
            case input(String)
            case state(String)
            case constant(HostArray)
            case temporary
            /// The variables, which are drawn step by step.
            case variable
        }

        /// Elements of one example, or of the whole value if it is shared.
        public var count: Int
        public var element: ElementType
        public var isShared: Bool
        public var storage: Storage
        /// Elements of a temporary that are there from the start, because they never vary; no work writes them.
        public var known: KnownValues?
        public var label: String

        public init(
            count: Int, element: ElementType, isShared: Bool, storage: Storage, known: KnownValues? = nil, label: String
        ) {
            (self.count, self.element, self.isShared) = (count, element, isShared)
            (self.storage, self.known, self.label) = (storage, known, label)
        }
    }

    /// Where the elements of an operation lie in a value: element (position, channel) at
    /// `positions[position] + channel * channelStride`, and in a loop so much further as the cursor says for the iteration.
    public struct Table: Sendable, Equatable {
        public var positions: [Int32]
        public var channelStride: Int
        /// Which of the program's cursors moves it; the first moves nothing.
        public var cursor = 0
    }

    /// Where an operation finds an operand for each of its elements.
    public struct Operand: Sendable, ProgramOperand {
        public enum Source: Sendable, Equatable {
            case value(Int)
            /// int32 `table + batchStride * example`, and no memory is read.
            case position(batchStride: Int)
        }

        public var source: Source
        public var table: Table
        public var element: ElementType
    }

    /// A run of products, relative to the bases.
    public typealias Segment = Graph.SumOfProducts.Segment

    /// A sum of products for each element: over the segments of `rows[row[position]]`, of
    /// `a[aBase + segment.a + j * aStride] * b[bBase + segment.b + j * bStride]`. Masked dense layers, matrix products and
    /// convolutions: a segment is a run of inputs that a mask leaves, or one tap.
    public struct SumOfProducts: Sendable {
        public var a: Int
        public var b: Int
        public var aBase: Table
        public var bBase: Table
        public var aStride: Int
        public var bStride: Int
        public var rows: [[Segment]]
        public var row: [Int32]
    }

    /// A reduction for each element over the elements at `base + offsets[..]` of a value.
    public struct Reduction: Sendable {
        public var kind: ReductionGroup.Kind
        public var value: Int
        public var base: Table
        public var offsets: [Int32]
    }

    public enum Anchor: Sendable {
        case none
        case product(SumOfProducts)
        case reduction(Reduction)
        case attention(Attention)
    }

    /// `outputs[..][targets[..](e)] = program(anchor(e), operands(e)..)` for the elements of one step after another: at each
    /// position of the step all channels, which become computable together.
    public struct Work: Sendable {
        public var label: String
        public var location: SourceLocation?
        public var channels: Int
        public var anchor: Anchor
        public var operands: [Operand]
        /// Register 0 is the anchor's result, if there is an anchor; then the operands.
        public var program: Program
        /// One value for each program output.
        public var outputs: [Int]
        /// The element of each output that each element of the operation writes.
        public var targets: [Table]
        /// Positions in the order of their slots; those of slot s are `order[slotStart[s]..<slotStart[s + 1]]`. What a slot is, the
        /// section says that the work belongs to.
        public var order: [Int32]
        public var slotStart: [Int32]

        /// What one element adds up or compares, at most: the terms of a sum, the keys of a query. One where there is no anchor.
        public var mostTerms: Int {
            func longest(_ rows: [[Segment]]) -> Int {
                rows.reduce(1) { most, row in max(most, row.reduce(0) { $0 + Int($1.count) }) }
            }
            return switch anchor {
            case .none: 1
            case .product(let product): longest(product.rows)
            case .reduction(let reduction): max(1, reduction.offsets.count)
            case .attention(let attention): longest(attention.rows)
            }
        }

        /// An estimate of the multiply-adds for one example at a position; backends tell long works from short ones by
        /// it.
        public var cost: Int {
            // An elementwise function costs a few multiply-adds.
            let elementwise = channels * (2 + 4 * program.instructions.count)
            guard let multiplyAdds, !order.isEmpty else { return elementwise }
            return elementwise + order.reduce(0) { $0 + multiplyAdds($1) } / order.count
        }

        /// Multiply-adds for one example at a position.
        var multiplyAdds: ((Int32) -> Int)? {
            func counts(_ rows: [[Segment]], _ row: [Int32], each: Int) -> (Int32) -> Int {
                let counts = rows.map { row in each * row.reduce(0) { $0 + Int($1.count) } }
                return { counts[Int(row[Int($0)])] }
            }
            return switch anchor {
            case .none, .reduction: nil
            case .product(let p): counts(p.rows, p.row, each: channels)
            case .attention(let a): counts(a.rows, a.row, each: a.depth + channels)
            }
        }

        public func positions(slot: Int) -> ArraySlice<Int32> { order[Int(slotStart[slot])..<Int(slotStart[slot + 1])] }
    }

    /// Works that run one after another, once or over and over in a step: those of a loop's body run for one iteration of the loop after
    /// another. Iterations that compute the same elements at the same distance in steps share slots.
    public struct Section: Sendable {
        /// One run through the works: the positions of a slot, for an iteration.
        public struct Pass: Sendable, Equatable {
            public var iteration: Int32
            public var slot: Int32
        }

        public var works: Range<Int>
        /// Those of step t are `passes[passStart[t]..<passStart[t + 1]]`.
        public var passes: [Pass]
        public var passStart: [Int32]

        init(_ works: Range<Int>, passes: [[Pass]]) {
            self.works = works
            self.passes = passes.flatMap { $0 }
            passStart = passes.reduce(into: [0]) { $0.append($0.last! + Int32($1.count)) }
        }

        public func passes(step: Int) -> ArraySlice<Pass> { passes[Int(passStart[step])..<Int(passStart[step + 1])] }
    }

    /// Tensors that are the same for every example and every step, computed once before a draw and fed under these
    /// names.
    public var prelude: [(name: String, tensor: Tensor)] = []
    public var values: [Value]
    /// Run in the order of the sections.
    public var works: [Work]
    /// All works, in the order in which they run within a step.
    public var sections: [Section] = []
    /// How much further a table's elements lie in each iteration of a loop.
    public var cursors: [[Int32]] = [[]]
    /// The value that holds the variables, which is also handed back.
    public var variable: Int
    /// The value that holds the variables' new values: after the works of step t, `variable[v] = drawn[v]` for `v` in
    /// group t.
    public var drawn: Int
    /// The variables of each step.
    public var groups: [[Int32]]
    /// The shape of one example of the variable.
    public var exampleShape: [Int]
    /// Values that are handed back beside the variable.
    public var outputs: [Output]
    /// Takes the place of all works where some operation has no incremental form.
    public var fullPasses: FullPasses?

    /// A value that is handed back, of one example's shape.
    public struct Output: Sendable {
        public var value: Int
        public var exampleShape: [Int]
        /// Where the elements lie in the value, if not in their own order.
        public var places: [Int32]?
    }

    /// The states that the works and the prelude read.
    public var stateNames: [String] {
        let own = values.compactMap { value -> String? in
            if case .state(let name) = value.storage { name } else { nil }
        }
        let before = topologicalOrder(prelude.map(\.tensor)).compactMap { node -> String? in
            guard let placeholder = node.operation as? Placeholder, placeholder.role == .state else { return nil }
            return placeholder.label
        }
        return own + before
    }

    /// The variable and the outputs.
    public var results: [Output] { [Output(value: variable, exampleShape: exampleShape)] + outputs }

    public var stepCount: Int { groups.count }

    /// How much further the elements of a table lie in an iteration.
    public func offset(_ table: Table, iteration: Int) -> Int {
        table.cursor == 0 ? 0 : Int(cursors[table.cursor][iteration])
    }

    /// Multiply-adds of the works for one example.
    public var multiplyAdds: Int { total(\.multiplyAdds) }

    /// About as many multiply-adds as all steps cost for one example.
    public var cost: Int {
        total { work in
            let cost = work.cost
            return { _ in cost }
        }
    }

    /// The sum over all works and all positions of their passes.
    /// - Parameter amount: of a position of a work; `nil` where it is nothing.
    private func total(_ amount: (Work) -> ((Int32) -> Int)?) -> Int {
        sections.reduce(0) { total, section in
            var passes: [Int32: Int] = [:]
            for pass in section.passes { passes[pass.slot, default: 0] += 1 }
            return section.works.reduce(total) { total, index in
                guard let amount = amount(works[index]) else { return total }
                return passes.reduce(total) { total, slot in
                    total + slot.value * works[index].positions(slot: Int(slot.key)).reduce(0) { $0 + amount($1) }
                }
            }
        }
    }
}

extension SamplingProgram {
    /// The arrays that are fed to a draw, and those that the prelude computes from them.
    /// - Parameter executable: computes the prelude's tensors.
    public func preluded(_ feeds: [String: HostArray], by executable: (any Executable)?) throws -> [String: HostArray] {
        guard let executable else { return feeds }
        let names = Set(executable.schedule.inputs.map { executable.schedule.values[$0].label })
        let results = try executable.run(feeds.filter { names.contains($0.key) }.mapValues { .host($0) }, batch: 1)
        return feeds.merging(zip(prelude.map(\.name), results)) { a, _ in a }
    }
}

/// A draw that has no incremental program, and why.
public struct SamplingError: Error, Sendable, CustomStringConvertible {
    public let description: String
}
