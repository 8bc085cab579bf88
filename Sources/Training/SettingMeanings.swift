import Likelihood

// What `martlet settings` says of every setting.

extension TrainingSettings {
    public static var meanings: [String: SettingMeaning] {
        [
            "batch": SettingMeaning(
                "Examples of a step, or of each of its batches where accumulate is set", "1 to 1048576"),
            "accumulate": SettingMeaning(
                "Batches whose gradients are summed for a step, which is then that of a batch so many times as large",
                "1 to 1048576"),
            "epochs": SettingMeaning(
                "Passes over the training set; of lbfgs steps, each of as many passes as its line search needs",
                "0 to 16777216"),
            "learningRate": SettingMeaning(
                "The length of a step before the schedule shortens it; lbfgs finds its own", "at least 0"),
            "optimizer": SettingMeaning(
                "The rule that moves the parameters",
                "sgd, momentum, adagrad, adadelta, adam, adamw, adamax, muon, lbfgs"),
            "beta1": SettingMeaning(
                "What the average of gradients keeps of itself at a step: of adam, adamw, adamax and muon",
                "0 to 1, or default"),
            "beta2": SettingMeaning(
                "What the average of squared gradients keeps of itself at a step: of adam, adamw and adamax",
                "0 to 1, or default"),
            "decay": SettingMeaning(
                "What both averages of adadelta keep of themselves at a step", "0 to 1, or default"),
            "epsilon": SettingMeaning(
                "What is added to a step's divisor: of every optimizer but sgd and momentum", "above 0, or default"),
            "momentum": SettingMeaning(
                "What the sum of gradients keeps of itself at a step: of sgd, momentum and muon", "0 to 1, or default"),
            "history": SettingMeaning(
                "Steps that lbfgs remembers, each in the memory of two copies of the weights", "1 to 100, or default"),
            "gradientTolerance": SettingMeaning(
                "lbfgs ends where the gradient is no longer than this", "at least 0, or default"),
            "decreaseTolerance": SettingMeaning(
                "lbfgs ends where a step makes the objective less by no more than this share of it",
                "at least 0, or default"),
            "schedule": SettingMeaning("How the learning rate changes", "constant, linear, cosine"),
            "finalRate": SettingMeaning("The factor of the learning rate at the end of the schedule", "at least 0"),
            "weightDecay": SettingMeaning(
                "What is taken off every weight at a step, in learning rates (adamw, muon), or added to its gradient as that of λ/2 |p|² (all others)",
                "at least 0"),
            "clipNorm": SettingMeaning("The most that all gradients together may be long; 0 leaves them", "at least 0"),
            "averaging": SettingMeaning(
                "What the average of the weights, which is evaluated, keeps of itself at a step; 0 evaluates the weights",
                "0 to below 1"),
            "shear": SettingMeaning(
                "The most that neighbouring rows, and columns, of a training image are moved against each other, in pixels; drawn anew for each epoch",
                "0 to 1"),
            "straightEpochs": SettingMeaning("The last epochs, whose images are not sheared", "at least 0"),
            "patience": SettingMeaning(
                "Epochs without a better validation figure after which training stops; 0 never", "at least 0"),
            "seed": SettingMeaning("Decides starting weights, masks, shuffles, splits and noise", "a whole number"),
            "samples": SettingMeaning("Examples that are drawn at the end of a run; 0 draws none", "0 to 16384"),
            "validationExamples": SettingMeaning(
                "Examples of the validation set that are looked at after each epoch; 0 takes all", "at least 0"),
        ]
    }
}
