import Graph

/// What a recurrent layer computes in one step.
public enum Recurrence: String, CaseIterable, Codable, Sendable {
    /// `h' = tanh(W x + U h + b)` (Elman 1990).
    case rnn
    /// Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000).
    case lstm
    /// Gated recurrent unit (Cho et al. 2014), the reset gate behind the product, as cuDNN and PyTorch have it.
    case gru

    /// Products of a unit with its inputs.
    public var gateCount: Int {
        switch self {
        case .rnn: 1
        case .lstm: 4
        case .gru: 3
        }
    }

    /// Numbers that a unit carries from step to step: its output h, and an LSTM's cell c.
    public var stateCount: Int { self == .lstm ? 2 : 1 }
}

/// A recurrent layer: the weights and gates of PyTorch's `RNN`, `LSTM` and `GRU`, so that weights go to and from it as they are.
///
/// The gates lie one after the other: i, f, g, o of an LSTM, r, z, n of a GRU, `units` rows each. The inputs of all steps are multiplied
/// at once; a step has a single product, of what is carried with the weights of all gates.
public struct RecurrentLayer: Module {
    /// What a step computes.
    public let recurrence: Recurrence
    /// The numbers of its output.
    public let units: Int
    /// `[gates * units, inputs]`; `weight_ih` of PyTorch, and in files.
    public let inputWeight: Parameter
    /// `[gates * units, units]`; `weight_hh`.
    public let recurrentWeight: Parameter
    /// `[gates * units]`; `bias_ih` and `bias_hh`.
    public let inputBias: Parameter
    public let recurrentBias: Parameter

    /// All weights start uniform within 1 / sqrt(units), as PyTorch's.
    /// - Parameter inputs: numbers that each step reads.
    public init(_ recurrence: Recurrence, _ inputs: Int, _ units: Int) {
        self.recurrence = recurrence
        self.units = units
        let rows = recurrence.gateCount * units
        inputWeight = Parameter([rows, inputs], .fanIn(units))
        recurrentWeight = Parameter([rows, units], .fanIn(units))
        inputBias = Parameter([rows], .fanIn(units))
        recurrentBias = Parameter([rows], .fanIn(units))
    }

    public func name(ofProperty property: String) -> String {
        switch property {
        case "inputWeight": "weight_ih"
        case "recurrentWeight": "weight_hh"
        case "inputBias": "bias_ih"
        case "recurrentBias": "bias_hh"
        default: property
        }
    }

    /// What is carried into a first step: zeros, `[batch, units]` for each number of a unit.
    public func start(_ batch: Extent, _ element: ElementType) -> [Tensor] {
        (0..<recurrence.stateCount).map { _ in
            Tensor.scalar(0, element).broadcast(to: [batch, Extent(units)])
        }
    }

    /// - Parameters:
    ///   - x: `[steps, batch, inputs]`.
    ///   - state: what is carried into the first step, `[batch, units]` each; zeros if not given.
    ///   - mask: `[steps, batch]`, 1 where a sequence has a step and 0 behind its end, where the state stays as it is. The output there is
    ///     the state's.
    ///   - truncation: gradients do not flow from a multiple of so many steps to the steps before it; 0 lets them flow.
    /// - Returns: the outputs `[steps, batch, units]`, and what is carried out of the last step.
    public func callAsFunction(
        _ x: Tensor, state: [Tensor]? = nil, mask: Tensor? = nil, truncation: Int = 0, file: StaticString = #fileID,
        line: UInt = #line
    ) -> (outputs: Tensor, state: [Tensor]) {
        if x.error != nil { return (x, state ?? []) }
        guard x.shape.rank == 3 else {
            let mistake = Tensor.misuse("recurrent layer", "expected [steps, batch, inputs], found \(x.shape)", of: x)
            return (mistake, state ?? [])
        }
        let (steps, batch) = (x.shape[0], x.shape[1])
        let products = x.reshaped([steps * batch, x.shape[2]])
            .matmul(inputWeight.tensor.matrixTransposed(), file: file, line: line)
        // The biases of gates that nothing comes between are one.
        let bias = recurrence == .gru ? inputBias.tensor : inputBias.tensor + recurrentBias.tensor
        let gates = (products + bias).reshaped([steps, batch, Extent(recurrence.gateCount * units)])
        var sequences = [gates]
        if let mask { sequences.append(mask.reshaped([steps, batch, 1])) }
        if truncation > 0 { sequences.append(.starts(every: truncation, of: steps.coefficient, x.elementType)) }
        let (last, outputs) = Tensor.scan(
            state ?? start(batch, x.elementType), over: sequences, file: file, line: line
        ) { carries, slices in
            var carries = carries
            if truncation > 0 {
                let starts = slices[slices.count - 1].greater(0)
                carries = carries.map { .select(starts.broadcast(to: $0.shape), $0.stoppingGradient(), $0) }
            }
            let recurrent = carries[0].matmul(recurrentWeight.tensor.matrixTransposed(), file: file, line: line)
            var next = step(carries, slices[0], recurrent)
            if mask != nil {
                next = zip(next, carries).map { .select(slices[1].greater(0).broadcast(to: $0.shape), $0, $1) }
            }
            return (next, [next[0]])
        }
        return (outputs[0], last)
    }

    /// What is carried out of a step, from the products of its gates with the input and with the output before, `[batch, gates * units]`.
    private func step(_ carries: [Tensor], _ input: Tensor, _ recurrent: Tensor) -> [Tensor] {
        switch recurrence {
        case .rnn: return [(input + recurrent).tanh()]
        case .lstm:
            let (h, c) = (input + recurrent).lstm(cell: carries[1])
            return [h, c]
        case .gru:
            let u = recurrent + recurrentBias.tensor
            func gate(_ index: Int) -> (Tensor, Tensor) { (input.gate(index, of: 3), u.gate(index, of: 3)) }
            let (r, z, n) = (gate(0), gate(1), gate(2))
            let candidate = (n.0 + (r.0 + r.1).sigmoid() * n.1).tanh()
            let kept = (z.0 + z.1).sigmoid()
            return [candidate + kept * (carries[0] - candidate)]
        }
    }
}

extension Tensor {
    /// One of several gates that lie one after the other along the channels.
    func gate(_ index: Int, of count: Int) -> Tensor {
        let channels = shape[1].coefficient / count
        return sliced(axis: 1, from: index * channels, count: channels)
    }

    /// One step of long short-term memory from the sums of its gates i, f, g, o, `[batch, 4 * units, ..]`.
    /// - Parameter cell: c, `[batch, units, ..]`.
    /// - Returns: h' and c'.
    public func lstm(cell: Tensor) -> (output: Tensor, cell: Tensor) {
        let c = gate(1, of: 4).sigmoid() * cell + gate(0, of: 4).sigmoid() * gate(2, of: 4).tanh()
        return (gate(3, of: 4).sigmoid() * c.tanh(), c)
    }

    /// `[steps]`, 1 at every multiple of `length`.
    fileprivate static func starts(every length: Int, of steps: Int, _ element: ElementType) -> Tensor {
        .constant(
            HostArray(Values(shape: [steps], elements: (0..<steps).map { $0 % length == 0 ? 1 : 0 }), as: element))
    }
}

/// Recurrent layers on top of one another.
public struct RecurrentStack: Module {
    /// From the first step to the last; each reads the outputs of the one before.
    public let layers: [RecurrentLayer]
    /// Layers that go from the last step to the first, one beside each of the others; they read the future.
    public let backwards: [RecurrentLayer]
    /// Between layers.
    let dropout: [Dropout]

    /// - Parameters:
    ///   - isBidirectional: whether a layer has a second half that goes backwards, whose outputs lie behind those of the first. For
    ///     sequences that are given whole; no conditional may read it.
    ///   - dropout: the share of outputs between layers that a training step leaves out.
    public init(
        _ recurrence: Recurrence, _ inputs: Int, _ units: Int, layers count: Int, isBidirectional: Bool = false,
        dropout rate: Double = 0
    ) {
        let outputs = isBidirectional ? 2 * units : units
        func stack() -> [RecurrentLayer] {
            (0..<count).map { RecurrentLayer(recurrence, $0 == 0 ? inputs : outputs, units) }
        }
        layers = stack()
        backwards = isBidirectional ? stack() : []
        dropout = (0..<max(0, count - 1)).map { Dropout(rate, stream: 400 + $0) }
    }

    /// - Parameters:
    ///   - x: `[steps, batch, inputs]`.
    ///   - states: of each layer, what is carried into the first step; of layers that go backwards, behind all others. Zeros if not given.
    ///   - mask: `[steps, batch]`, 1 where a sequence has a step.
    ///   - truncation: see `RecurrentLayer`; of training steps alone.
    /// - Returns: the outputs `[steps, batch, units]` of the last layer, `2 * units` of a bidirectional one, and what each layer carries out
    ///   of its last step.
    public func callAsFunction(
        _ x: Tensor, _ context: Context, states: [[Tensor]]? = nil, mask: Tensor? = nil, truncation: Int = 0,
        file: StaticString = #fileID, line: UInt = #line
    ) -> (outputs: Tensor, states: [[Tensor]]) {
        let truncation = context.mode == .train ? truncation : 0
        var (h, last, lastBackwards) = (x, [[Tensor]](), [[Tensor]]())
        for (index, layer) in layers.enumerated() {
            if index > 0 { h = dropout[index - 1](h, context) }
            let (outputs, state) = layer(
                h, state: states?[index], mask: mask, truncation: truncation, file: file, line: line)
            last.append(state)
            if backwards.isEmpty {
                h = outputs
                continue
            }
            let (behind, stateBehind) = backwards[index](
                h.flipped(axes: [0]), state: states?[layers.count + index], mask: mask?.flipped(axes: [0]),
                truncation: truncation, file: file, line: line)
            lastBackwards.append(stateBehind)
            h = .concatenate([outputs, behind.flipped(axes: [0])], axis: 2)
        }
        return (h, last + lastBackwards)
    }
}
