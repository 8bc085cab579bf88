import Graph

/// The variables of a table, each by what its column holds: a name of two is Bernoulli, one of more is categorical, real numbers are a
/// mixture of Gaussians, whole ones a mixture of discretized logistics over all whole numbers (Salimans et al. 2017, equation 2,
/// without ends).
///
/// Networks read numbers standardised, names of more than two one-hot. Parameters are those of the column with most of them; the
/// others leave what they do not need. A number's are logits, means and log scales of its components, in deviations of the column.
/// Densities and probabilities are those of the original units.
public struct TableConditional: Conditional {
    public let columns: [Column]
    /// Of the mixtures of numbers.
    public let components: Int
    /// No component is narrower, in deviations of its column.
    public let leastScale: Double

    public init(_ columns: [Column], components: Int = 10, leastScale: Double = 0.01) {
        trap(unless: !columns.isEmpty, "a table has one column or more")
        trap(unless: components >= 1, "a mixture needs at least one component, found \(components)")
        trap(unless: leastScale > 0 && leastScale < 1, "a least scale lies between 0 and 1, found \(leastScale)")
        self.columns = columns
        self.components = components
        self.leastScale = leastScale
    }

    private enum Family: CaseIterable { case bernoulli, categorical, real, whole }

    private func family(_ column: Column) -> Family {
        switch column.kind {
        case .real: .real
        case .whole: .whole
        case .category(let names): names.count <= 2 ? .bernoulli : .categorical
        }
    }

    /// Those that some column is of.
    private var families: [Family] { Family.allCases.filter { kind in columns.contains { family($0) == kind } } }

    /// Names of the columns that have more than two.
    private var widest: Int {
        columns.reduce(0) { max($0, family($1) == .categorical ? $1.categories?.count ?? 0 : 0) }
    }

    public var name: String { families == [.real] ? "mixture of \(components) gaussians" : "each column's own" }
    public var domain: VariableDomain { families == [.real] ? .real : .table(columns) }
    public var parameterCount: Int {
        max(widest, families.contains(.real) || families.contains(.whole) ? 3 * components : 1)
    }
    public var inputCount: Int { max(1, widest) }

    /// Where `[.., variables]` is of columns of a family, for a tensor of a shape.
    private func isOf(_ kind: Family, _ shape: Shape, _ type: ElementType) -> Tensor {
        let flags = Tensor.row(columns.map { family($0) == kind ? 1 : 0 }, type).reshaped(
            Shape([Extent](repeating: 1, count: shape.rank - 1) + [Extent(columns.count)]))
        return flags.broadcast(to: shape).greater(.scalar(0, type))
    }

    public func encode(_ x: Tensor) -> Tensor {
        let standardized = x.standardized(columns).reshaped([x.shape[0], 1, x.shape[1]])
        guard widest > 0 else { return standardized }
        let shape = Shape([x.shape[0], Extent(widest), x.shape[1]])
        let place = Tensor.iota(shape, axis: 1).cast(to: x.elementType)
        let isName = x.reshaped([x.shape[0], 1, x.shape[1]]).broadcast(to: shape).equal(place)
        // What is no name is the first of a variable's inputs.
        let number = Tensor.select(place.less(.scalar(0.5, x.elementType)), standardized.broadcast(to: shape), 0)
        return .select(isOf(.categorical, shape, x.elementType), isName.cast(to: x.elementType), number)
    }

    /// Logits of names, those of names that a column does not have so low that they are never drawn.
    private func nameLogits(_ parameters: Tensor) -> Tensor {
        let logits = parameters.blocks(0, widest)
        let place = Tensor.iota(logits.shape, axis: 1).cast(to: logits.elementType)
        let counts = Tensor.row(columns.map { Double($0.categories?.count ?? 1) }, logits.elementType)
            .reshaped([1, 1, Extent(columns.count)]).broadcast(to: logits.shape)
        return .select(place.less(counts), logits, .scalar(-1e9, logits.elementType))
    }

    private func logScale(_ parameters: Tensor) -> Tensor {
        parameters.blocks(2 * components, components).boundedLogScale(least: leastScale)
    }

    /// Half of a whole number's interval, in deviations of its column.
    private func halfWidth(_ type: ElementType) -> Tensor {
        .row(columns.map { 0.5 / $0.scaling.deviation }, type).reshaped([1, 1, Extent(columns.count)])
    }

    private func logProbability(_ kind: Family, _ x: Tensor, _ parameters: Tensor) -> Tensor {
        let flat = Shape([x.shape[0], 1, x.shape[1]])
        switch kind {
        case .bernoulli: return BernoulliConditional().logProbability(x, parameters)
        case .categorical:
            let logits = nameLogits(parameters)
            let place = Tensor.iota(logits.shape, axis: 1).cast(to: x.elementType)
            let isName = x.reshaped(flat).broadcast(to: logits.shape).equal(place)
            return Tensor.select(isName, logits, 0).sum(axes: [1]) - logits.logSumExp(axes: [1])
        case .real:
            let density = MixtureOfGaussians(components: components, leastScale: leastScale)
            let shift = Tensor.row(columns.map { Math.log($0.scaling.deviation) }, x.elementType)
            return density.logProbability(x.standardized(columns), parameters) - shift
        case .whole:
            // The logarithm of a difference of two sigmoids, by a sum that does not cancel: see `LogisticBins`.
            let logScale = logScale(parameters)
            let inverse = (-logScale).exp()
            let half = halfWidth(x.elementType)
            let distance = x.standardized(columns).reshaped(flat) - parameters.blocks(components, components)
            let below = -(-((distance + half) * inverse)).softplus()
            let above = -((distance - half) * inverse).softplus()
            let between = (-(inverse * (half * -2)).apply(.expm1)).log()
            return (parameters.blocks(0, components).logSoftmax(axis: 1) + below + above + between)
                .logSumExp(axes: [1])
        }
    }

    public func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor {
        eachColumn(x.shape, x.elementType) { logProbability($0, x, parameters) }
    }

    /// What a family's formula gives in its columns.
    private func eachColumn(_ shape: Shape, _ type: ElementType, _ value: (Family) -> Tensor) -> Tensor {
        let families = families
        return families.dropFirst().reduce(value(families[0])) { result, kind in
            .select(isOf(kind, shape, type), value(kind), result)
        }
    }

    public func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor {
        let type = parameters.elementType
        let shape = Shape([parameters.shape[0], parameters.shape[2]])
        let means = Tensor.row(columns.map(\.scaling.mean), type)
        let deviations = Tensor.row(columns.map(\.scaling.deviation), type)
        return eachColumn(shape, type) { kind in
            switch kind {
            case .bernoulli:
                return BernoulliConditional().sample(parameters, random, temperature: temperature)
            case .categorical:
                return CategoricalConditional(levels: widest).sample(
                    nameLogits(parameters), random, temperature: temperature)
            case .real:
                let density = MixtureOfGaussians(components: components, leastScale: leastScale)
                return density.sample(parameters, random, temperature: temperature) * deviations + means
            case .whole:
                let (isChosen, other) = chosenComponent(parameters.blocks(0, components), random, temperature)
                let pick = { (t: Tensor) in Tensor.select(isChosen, t, other).sum(axes: [1]) }
                let u = random.uniform(shape, stream: 2, as: type) + 0x1p-25
                let noise = u.log() - (1 - u).maximum(0x1p-25).log()
                let scale = pick(logScale(parameters)).exp() * temperature
                let value = pick(parameters.blocks(components, components)) + scale * noise
                return (value * deviations + means + 0.5).apply(.floor)
            }
        }
    }
}
