import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

/// An autoencoder: a network that gives back what it is shown, through a code that is narrow, sparse, or of something corrupted.
///
/// - Undercomplete: a code of fewer numbers than the example (Rumelhart, Hinton, Williams 1986).
/// - Sparse: the code's absolute values are penalised, or its units are to be on at a small rate (Ng 2011, "Sparse autoencoder",
///   equation 6): KL(rate || mean activation), summed over units.
/// - Denoising (Vincent, Larochelle, Bengio, Manzagol 2008): variables are set to zero, to black or white, or get Gaussian noise, and
///   the example as it was is to be given back. Such a one draws by its Markov chain (Bengio, Yao, Alain, Vincent 2013, section 3):
///   corrupt, reconstruct, draw each variable, and again.
///
/// Each variable's distribution given the code has the same conditionals as elsewhere. Their product is no distribution of examples,
/// as each reads its own variable: the sum over all x of the product of p(x_d | code(x)) is not one. What is reported is therefore
/// called a reconstruction's error, in nats; a mask that hides from each variable itself and what comes later makes it a likelihood
/// (`MADE`).
public struct Autoencoder: LatentModel, ConfiguredModel {
    /// What a training step does to the numbers that the network reads of an example.
    public enum Corruption: Hashable, Sendable {
        case none
        /// A share of the variables is zero.
        case masking(Double)
        /// A share of binary variables is 0 or 1 by chance.
        case saltAndPepper(Double)
        /// Noise of a deviation.
        case gaussian(Double)
    }

    /// What a training step adds to the error.
    public enum Sparsity: Hashable, Sendable {
        case none
        /// `weight` times the sum of the code's absolute values; code units are rectified, so that most can be zero.
        case absolute(weight: Double)
        /// `weight` times the sum over units of KL(rate || mean activation of the batch); code units are sigmoid.
        case rate(Double, weight: Double)
    }

    public let examples: ExampleShape
    public let conditional: any Conditional
    public let latentCount: Int
    public let corruption: Corruption
    public let sparsity: Sparsity
    /// From what is read of an example, `[batch, inputs variables]`, to the code in front of its units, `[batch, latentCount]`.
    public let encoder: any Conditioner
    /// From the code to parameters `[batch, parameters variables]`.
    public let decoder: any Conditioner
    /// Of the Markov chain.
    private let steps: Int

    public var domain: VariableDomain { conditional.domain }
    public var metric: Metric { Metric("reconstruction's error", unit: "nats of reconstruction") }

    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        conditional = try makeConditional(settings.conditional, examples, leastScale: settings.leastScale)
        (latentCount, steps) = (settings.code, settings.steps)
        corruption = try settings.makeCorruption()
        sparsity = try settings.makeSparsity()
        let activation = try requireChoice(settings.activation, "activation") as Activation
        if settings.channels.isEmpty {
            encoder = DenseNetwork(
                examples.count * conditional.inputCount, hidden: settings.hidden, outputs: settings.code,
                activation: activation)
            decoder = DenseNetwork(
                settings.code, hidden: settings.hidden.reversed(), outputs: examples.count * conditional.parameterCount,
                activation: activation)
        } else {
            let image = try requireImage(examples)
            encoder = ImageEncoder(
                [image.channels * conditional.inputCount, image.height, image.width], channels: settings.channels,
                hidden: settings.hidden, code: settings.code, activation: activation)
            decoder = ImageDecoder(
                [image.channels * conditional.parameterCount, image.height, image.width], channels: settings.channels,
                hidden: settings.hidden, code: settings.code, activation: activation)
        }
    }

    // MARK: reconstruction

    /// What the network reads of examples, `[batch, inputs variables]`.
    private func read(_ x: Tensor) -> Tensor {
        conditional.encode(x).reshaped([x.shape[0], Extent(conditional.inputCount * variableCount)])
    }

    /// - Parameter random: of which the corruption takes its numbers.
    private func corrupted(_ x: Tensor, _ random: RandomSource) -> Tensor {
        let (clean, type) = (conditional.encode(x), x.elementType)
        /// Where a share of the variables is, for all of a variable's inputs.
        func isChosen(_ share: Double) -> Tensor {
            random.uniform([x.shape[0], 1, x.shape[1]], stream: 40, as: type).less(.scalar(share, type))
                .broadcast(to: clean.shape)
        }
        let noisy: Tensor =
            switch corruption {
            case .none: clean
            case .masking(let share): .select(isChosen(share), .scalar(0, type), clean)
            case .saltAndPepper(let share):
                .select(
                    isChosen(share), random.bernoulli(.scalar(0.5, type).broadcast(to: clean.shape), stream: 41), clean)
            case .gaussian(let deviation): clean + random.normal(clean.shape, stream: 42, as: type) * deviation
            }
        return noisy.reshaped([x.shape[0], Extent(conditional.inputCount * variableCount)])
    }

    /// The code of what was read.
    private func code(_ read: Tensor, _ context: Context) -> Tensor {
        let h = encoder(read, context)
        return switch sparsity {
        case .none: h
        case .absolute: h.relu()
        case .rate: h.sigmoid()
        }
    }

    private func parameters(_ code: Tensor, _ context: Context) -> Tensor {
        decoder(code, context)
            .reshaped([code.shape[0], Extent(conditional.parameterCount), Extent(variableCount)])
    }

    /// -log p(x | code) in nats, `[batch]`.
    private func error(_ x: Tensor, _ code: Tensor, _ context: Context) -> Tensor {
        -conditional.logProbability(x, parameters(code, context)).sum(axes: [1])
    }

    /// The error where nothing is corrupted.
    public func evaluation(_ x: Tensor, _ context: Context) -> Tensor { error(x, encode(x, context), context) }

    public func objective(_ x: Tensor, _ context: Context) -> Tensor {
        let code = code(corrupted(x, context.random), context)
        let error = error(x, code, context).mean()
        switch sparsity {
        case .none: return error
        case .absolute(let weight): return error + code.absolute().sum(axes: [1]).mean() * weight
        case .rate(let rate, let weight):
            // Kept off the ends, where the divergence has no bound.
            let mean = code.mean(axes: [0]) * (1 - 2e-6) + 1e-6
            let divergence =
                (mean.log() * -rate - (1 - mean).log() * (1 - rate)).sum()
                + Double(latentCount) * (rate * Math.log(rate) + (1 - rate) * Math.log(1 - rate))
            return error + divergence * weight
        }
    }

    // MARK: latents

    public func encode(_ x: Tensor, _ context: Context) -> Tensor { code(read(x), context) }

    /// The likeliest value of each variable: a draw without noise.
    public func decodingStages(_ context: Context) throws -> [Drawing.Stage] {
        let code = Tensor.input(Drawing.previous, [.batch, Extent(latentCount)], element)
        return [.direct([conditional.sample(parameters(code, context), context.random, temperature: 1e-6)])]
    }

    // MARK: drawing

    /// The Markov chain of a denoising autoencoder. It begins where every conditional has the parameters zero.
    public func drawing(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Drawing {
        if request.observed != nil {
            throw UsageError("complete: an autoencoder has no conditionals of some variables given others; take a made")
        }
        if corruption == .none {
            throw UsageError(
                "sample: an autoencoder has no distribution to draw from; one that was trained with corruption=masking:0.3, say, draws by its Markov chain"
            )
        }
        let shape = Shape([.batch, Extent(conditional.parameterCount), Extent(variableCount)])
        let start = conditional.sample(
            Tensor.scalar(0, element).broadcast(to: shape), context.random, temperature: request.temperature)
        let before = Tensor.input(Drawing.previous, x.shape, x.elementType)
        let random = context.random.substream(100)
        let parameters = parameters(code(corrupted(before, random), context), context)
        let next = conditional.sample(parameters, random, temperature: request.temperature)
        return Drawing([.direct([start]), .repeated([next, parameters], times: steps)])
    }

    public func annotate(_ description: inout ModelDescription) {
        description.conditional = conditional.name
        description.remarks = [
            "figures are -log p(x | code(x)) in nats; their exponentials do not sum to one over all x",
            corruption == .none ? "it does not draw examples" : "draws are step \(steps) of its Markov chain",
        ]
    }
}

extension Autoencoder {
    /// The choices of an autoencoder.
    public struct Settings: ModelSettings {
        /// The code's numbers.
        public var code = 32
        /// Units of each dense layer of the encoder, and backwards of the decoder.
        public var hidden = [256]
        /// Feature maps of convolutions in front of the dense layers, each of which halves height and width; none of a dense network.
        public var channels: [Int] = []
        /// relu, tanh, sigmoid or softplus.
        public var activation = "relu"
        /// What a variable is given the code: bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, or for the
        /// columns of a table table:COMPONENTS.
        public var conditional = "bernoulli"
        /// No component of a table's mixtures is narrower, in standard deviations of its column.
        public var leastScale = 0.01
        /// none, masking:SHARE, saltpepper:SHARE or gaussian:DEVIATION.
        public var corruption = "none"
        /// none, l1:WEIGHT or kl:RATE:WEIGHT.
        public var sparsity = "none"
        /// Steps of the Markov chain that a denoising autoencoder draws by.
        public var steps = 50

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(code, "code", in: 1...1 << 16)
            try require(steps, "steps", in: 1...1000)
            try require(
                hidden.allSatisfy { (1...1 << 16).contains($0) } && hidden.count <= 64,
                "hidden: expected up to 64 layers of 1 to 65536 units, found \(hidden)")
            try require(
                channels.allSatisfy { (1...4096).contains($0) } && channels.count <= 8,
                "channels: expected up to 8 convolutions of 1 to 4096 maps, found \(channels)")
            if !channels.isEmpty { _ = try requireImage(examples) }
            try require(
                leastScale > 0 && leastScale < 1, "leastScale: expected a number between 0 and 1, found \(leastScale)")
            let corruption = try makeCorruption()
            if case .saltAndPepper = corruption {
                try require(
                    conditional == "bernoulli",
                    "corruption: saltpepper sets variables to 0 or 1, which suits conditional=bernoulli; expected masking:SHARE or gaussian:DEVIATION for \(conditional)"
                )
            }
            _ = try makeSparsity()
            _ = try makeConditional(conditional, examples, leastScale: leastScale)
            _ = try requireChoice(activation, "activation") as Activation
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            try data.requireNoGaps(for: "autoencoder")
            try require(
                data.examples.classes == nil && data.examples.features == nil,
                "an autoencoder is given nothing beside its examples; leave classes and features out, or take vae")
            conditional = conditionalSetting(for: data.values, components: 1)
            return notes(for: conditional, leastScale: leastScale)
        }

        /// The numbers of `kind:NUMBER` or `kind:NUMBER:NUMBER`.
        private func parts(_ text: String) -> (kind: String, numbers: [Double?]) {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            return (parts[0], parts.dropFirst().map { Double($0) })
        }

        func makeCorruption() throws -> Autoencoder.Corruption {
            switch parts(corruption) {
            case ("none", []): return .none
            case ("masking", let n) where n.count == 1:
                if let share = n[0], share > 0 && share < 1 { return .masking(share) }
            case ("saltpepper", let n) where n.count == 1:
                if let share = n[0], share > 0 && share < 1 { return .saltAndPepper(share) }
            case ("gaussian", let n) where n.count == 1:
                if let deviation = n[0], deviation > 0 && deviation <= 1000 { return .gaussian(deviation) }
            default: break
            }
            throw UsageError(
                "corruption: expected none, masking:SHARE or saltpepper:SHARE of a share between 0 and 1, or gaussian:DEVIATION, found “\(corruption)”"
            )
        }

        func makeSparsity() throws -> Autoencoder.Sparsity {
            switch parts(sparsity) {
            case ("none", []): return .none
            case ("l1", let n) where n.count == 1:
                if let weight = n[0], weight > 0 && weight <= 1e6 { return .absolute(weight: weight) }
            case ("kl", let n) where n.count == 2:
                if let rate = n[0], let weight = n[1], rate > 0 && rate < 1 && weight > 0 && weight <= 1e6 {
                    return .rate(rate, weight: weight)
                }
            default: break
            }
            throw UsageError(
                "sparsity: expected none, l1:WEIGHT, or kl:RATE:WEIGHT of a rate between 0 and 1, found “\(sparsity)”")
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try Autoencoder(examples, self)
        }
    }
}
