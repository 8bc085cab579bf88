import Likelihood

/// The choices of a run that every kind of model shares: optimizer, length, what is kept.
public struct TrainingSettings: Codable, Sendable, Equatable {
    public var batch = 100
    /// Batches whose gradients are summed for one step, which is then that of a batch so many times as large, in the memory of one.
    public var accumulate = 1
    public var epochs = 20
    public var learningRate = 0.001
    /// The rule that moves the parameters; `makeOptimizer()` makes it of this choice and the hyperparameters below.
    public var optimizer = OptimizerChoice.adam
    /// What the average of gradients keeps of itself at a step, of [0, 1): β₁ of `adam`, `adamw`, `adamax` and `muon`. `nil`, here and
    /// below, stands for the optimizer's own default.
    @Hyperparameter public var beta1: Double? = nil
    /// The same of the average of squares, β₂.
    @Hyperparameter public var beta2: Double? = nil
    /// What both averages of `adadelta` keep of themselves at a step, of [0, 1).
    @Hyperparameter public var decay: Double? = nil
    /// What is added to a step's divisor, above 0: of every optimizer but `sgd` and `momentum`.
    @Hyperparameter public var epsilon: Double? = nil
    /// What the sum of gradients keeps of itself at a step, of [0, 1): of `sgd`, `momentum` and `muon`.
    @Hyperparameter public var momentum: Double? = nil
    /// Steps that `lbfgs` remembers, 1 to 100.
    @Hyperparameter public var history: Double? = nil
    /// Training by `lbfgs` ends where the gradient is no longer than this.
    @Hyperparameter public var gradientTolerance: Double? = nil
    /// Training by `lbfgs` ends where a step makes the objective less by no more than this share.
    @Hyperparameter public var decreaseTolerance: Double? = nil
    public var schedule = RateSchedule.constant
    /// The factor of the learning rate at the end of the schedule.
    public var finalRate = 0.01
    public var weightDecay = 0.0
    public var clipNorm = 0.0
    public var averaging = 0.0
    /// The most that neighbouring rows, and columns, of a training image are moved against each other, in pixels; drawn anew for
    /// each epoch.
    public var shear = 0.0
    /// The last epochs, whose images are as they are.
    public var straightEpochs = 0
    /// Epochs without a better validation figure after which training stops; 0 never.
    public var patience = 30
    public var seed: UInt64 = 1
    /// Examples that are drawn at the end of a run; 0 draws none.
    public var samples = 64
    /// Examples of the validation set that are looked at after each epoch; 0 takes all.
    public var validationExamples = 0

    public init() {}

    /// Today's name of every setting that was called otherwise before, by the old name.
    static let formerNames = ["rate": "learningRate", "lookAhead": "patience"]

    /// Refuses settings that cannot be run.
    public func validate() throws {
        try require((1...1 << 20).contains(batch), "batch: expected 1 to 1048576, found \(batch)")
        try require((0...1 << 24).contains(epochs), "epochs: expected 0 to 16777216, found \(epochs)")
        try require((1...1 << 20).contains(accumulate), "accumulate: expected 1 to 1048576, found \(accumulate)")
        _ = try makeOptimizer()
        _ = try makeLBFGS()
        try require(
            learningRate >= 0, "learningRate: expected a number of at least 0, found \(learningRate)")
        try require(finalRate >= 0, "finalRate: expected a number of at least 0, found \(finalRate)")
        try require(weightDecay >= 0, "weightDecay: expected a number of at least 0, found \(weightDecay)")
        try require(clipNorm >= 0, "clipNorm: expected a number of at least 0, found \(clipNorm)")
        try require((0..<1).contains(averaging), "averaging: expected at least 0 and less than 1, found \(averaging)")
        try require((0...1).contains(shear), "shear: expected 0 to 1, found \(shear)")
        try require(straightEpochs >= 0, "straightEpochs: expected 0 or more, found \(straightEpochs)")
        try require(patience >= 0, "patience: expected 0 or more, found \(patience)")
        try require((0...1 << 14).contains(samples), "samples: expected 0 to 16384, found \(samples)")
        try require(
            validationExamples >= 0, "validationExamples: expected 0 or more, found \(validationExamples)")
        try requireFloat32(self)
    }
}
