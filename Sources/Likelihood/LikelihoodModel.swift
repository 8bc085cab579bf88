import Distributions
import Graph
import Layers

/// A model as everything that trains, evaluates, draws and inspects knows it. A family of models is one file that conforms.
///
/// Examples come flat, float32 `[batch, variables]`; the variables of an image in the order channel, row, column. What a traversal has
/// beside x is in its `Context`.
///
/// A family of one of the usual kinds conforms to a narrower protocol, which answers most of this: `AutoregressiveModel` where every
/// variable is drawn given those before it, `LatentModel` where examples have latents.
public protocol LikelihoodModel: Module {
    /// What an example is.
    var examples: ExampleShape { get }
    /// What the variables may hold.
    var domain: VariableDomain { get }
    /// Whether NaN stands for a variable that is not known, which is then marginalized.
    var acceptsMissing: Bool { get }
    /// What is read beside x.
    var conditions: Conditions { get }
    /// What `evaluation` measures.
    var metric: Metric { get }
    /// Examples that are evaluated together.
    var evaluationBatch: Int { get }

    /// The figure of each example, `[batch]`, in the unit of `metric`: -log p(x) in nats, where the model has a likelihood.
    func evaluation(_ x: Tensor, _ context: Context) -> Tensor
    /// What a training step minimises, a scalar.
    func objective(_ x: Tensor, _ context: Context) -> Tensor
    /// Values of parameters that depend on the first batch of examples are noted in the context, whose mode is `initialize`.
    func initialize(_ x: Tensor, _ context: Context)
    /// What a step of training is fed beside examples, conditions, random numbers and the optimizer's scalars.
    func feeds(step: Int) -> [String: HostArray]
    /// What each member of the model's ensemble is fed; the likelihood is their mixture's.
    var members: [[String: HostArray]] { get }

    /// How examples are drawn.
    /// - Parameter x: the placeholder of the examples, for a draw of one variable after another.
    /// - Throws: `UsageError` where the model cannot be drawn as requested.
    func drawing(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Drawing
    /// log p of the observed part of x under a member, `[batch]`, for the choice of the member that completes it.
    func observedLogProbability(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Tensor?

    /// The proof that the model is what it says, in one line.
    /// - Throws: `DependencyLeak` that names the way of the first leak.
    func prove() throws -> String
    /// The graph whose work `inspect` lists.
    func describedGraph(_ x: Tensor, _ context: Context) throws -> [Tensor]
    /// Adds what the graph does not show.
    func annotate(_ description: inout ModelDescription)
    /// The graph of the picture that `inspect --dependencies` draws: one element for each variable.
    func dependencies(_ x: Tensor, _ context: Context) throws -> (output: Tensor, order: Order)?
}

extension LikelihoodModel {
    public var acceptsMissing: Bool { false }
    public var conditions: Conditions { Conditions() }
    public var metric: Metric { .nats }
    public var evaluationBatch: Int { 500 }
    public func objective(_ x: Tensor, _ context: Context) -> Tensor { evaluation(x, context).mean() }
    public func initialize(_ x: Tensor, _ context: Context) { _ = objective(x, context) }
    public func feeds(step: Int) -> [String: HostArray] { [:] }
    public var members: [[String: HostArray]] { [[:]] }
    public func drawing(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Drawing {
        throw UsageError("this model does not draw examples")
    }
    public func observedLogProbability(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Tensor? {
        nil
    }
    public func prove() throws -> String { "nothing to prove: the model claims no order" }
    public func describedGraph(_ x: Tensor, _ context: Context) throws -> [Tensor] { [objective(x, context)] }
    public func annotate(_ description: inout ModelDescription) {}
    public func dependencies(_ x: Tensor, _ context: Context) throws -> (output: Tensor, order: Order)? { nil }

    /// The number of variables of an example.
    public var variableCount: Int { examples.count }
    /// The placeholder of the examples, `[batch, variables]`, fed as `x`.
    public func makeInput() -> Tensor { .input("x", [.batch, Extent(variableCount)], element) }

    /// A context whose conditions are fed: the classes as `label`, the features, which are then standardised, as `features`.
    public func makeContext(_ mode: Context.Mode = .evaluate) -> Context {
        let conditions = conditions
        return Context(
            mode, label: conditions.classes.map { _ in .input("label", [.batch], .int32) },
            features: conditions.input(element))
    }
}

/// A model with latents: a flow, exactly; an autoencoder, by what its encoder gives.
public protocol LatentModel: LikelihoodModel {
    /// Numbers of one latent vector.
    var latentCount: Int { get }
    /// Latents `[batch, latentCount]` of examples `[batch, variables]`.
    func encode(_ x: Tensor, _ context: Context) -> Tensor
    /// From latents, in `Drawing.previous`, to examples `[batch, variables]`.
    func decodingStages(_ context: Context) throws -> [Drawing.Stage]
}
