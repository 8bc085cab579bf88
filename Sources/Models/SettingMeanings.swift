import Likelihood

// What `martlet settings` says of every setting.

extension ByteNet.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning("Characters of the alphabet", "2 to 65536"),
            "channels": SettingMeaning("Channels of a character (2d of the paper)", "even, 1 to 65536"),
            "sets": SettingMeaning("How often the dilations 1, 2, 4, 8, 16 run through", "0 to 1024"),
            "kernel": SettingMeaning("Taps of the dilated convolutions", "1 to 64"),
            "dropout": SettingMeaning(
                "The share of numbers behind each block that a training step leaves out", "0 to below 1"),
            "encoder": SettingMeaning("An example is a source and its target, of equal length", "true, false"),
        ]
    }
}

extension Flow.ContinuousSettings {
    public static var meanings: [String: SettingMeaning] {
        [
            "hidden": SettingMeaning(
                "Units of each hidden layer of the velocity's network; with one or two layers the exact trace costs a product at most",
                "up to 64 layers of 1 to 1048576 units"),
            "activation": SettingMeaning(
                "The function between layers; smooth ones take fewer steps", "relu, tanh, sigmoid, softplus"),
            "time": SettingMeaning(
                "How layers are told the time: by factors and shifts of their units, or as an input",
                "squash, concat"),
            "training": SettingMeaning(
                "What a step of training does: the likelihood through steps of a given number, the likelihood by the adjoint at the tolerance, or flow matching, which solves nothing",
                "solve, adjoint, matching"),
            "solver": SettingMeaning("The method of training=solve", "euler, midpoint, rk4"),
            "steps": SettingMeaning("Its steps", "1 to 100000"),
            "tolerance": SettingMeaning(
                "Of each step of the adaptive solver that evaluates and draws (float32 tells no less than 2e-6); 0 takes the steps of solver for everything",
                "0, or 1e-12 to 0.1"),
            "trace": SettingMeaning(
                "How training finds the trace of the velocity's Jacobian: exactly, or estimated by one product",
                "exact, hutchinson"),
            "evaluationTrace": SettingMeaning("How evaluation finds it", "exact, hutchinson"),
            "kinetic": SettingMeaning(
                "Added to the loss times the mean square of the velocity along the way", "at least 0"),
            "jacobian": SettingMeaning(
                "Added to the loss times an estimate of the Jacobian's mean square along the way", "at least 0"),
        ].merging(wholeNumberMeanings) { $1 }
    }
}

extension GatedPixelCNN.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning(
                "Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them",
                "2 to 65536"),
            "channels": SettingMeaning("Feature maps of each stack, a multiple of the image's channels", "1 to 65536"),
            "blocks": SettingMeaning("Blocks of both stacks", "0 to 1024"),
            "headChannels": SettingMeaning("Feature maps of the first 1x1 convolution behind the blocks", "1 to 65536"),
            "conditional": SettingMeaning(
                "Conditions every block on what the examples have: their class (equation 4), their features",
                "true, false"),
        ]
    }
}

extension Flow.ImageSettings {
    public static var meanings: [String: SettingMeaning] {
        [
            "flow": SettingMeaning("Which flow", "glow, realnvp"),
            "scales": SettingMeaning(
                "How often half of the latents are handed on; each squeezes height and width by two", "1 to 8"),
            "steps": SettingMeaning("Glow's steps at each scale", "1 to 256"),
            "hidden": SettingMeaning("Channels between a conditioner's layers", "1 to 4096"),
            "blocks": SettingMeaning("Residual blocks of a conditioner; 0 for plain convolutions", "0 to 64"),
            "norm": SettingMeaning("What keeps the maps of residual blocks in range", "none, layer, weight"),
            "dropout": SettingMeaning(
                "The share of residual blocks' inner maps that a training step leaves out", "0 to below 1"),
            "learnedPrior": SettingMeaning(
                "Whether the latents' means and deviations are learned, the last scale's given class and features",
                "true, false"),
            "linear": SettingMeaning(
                "Glow's 1x1 convolutions: whole matrices, or products of triangular factors", "dense, plu"),
            "leastScale": SettingMeaning(
                "The least scale of Glow's couplings, which keeps draws in the range of floats", "0 to below 1"),
            "levels": SettingMeaning("Whole numbers 0 ..< levels as data; 0 for real ones", "0, or 2 to 65536"),
            "dequantization": SettingMeaning("The noise that makes whole numbers continuous", "uniform, variational"),
            "alpha": SettingMeaning(
                "x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves x in [0, 1)", "below 0.5"),
        ]
    }
}

extension Flow.VideoSettings {
    public static var meanings: [String: SettingMeaning] {
        [
            "scales": SettingMeaning("Levels of latents; each halves height and width", "1 to 8"),
            "steps": SettingMeaning("Glow's steps at each level", "1 to 256"),
            "hidden": SettingMeaning("Channels between a coupling's convolutions", "1 to 4096"),
            "contextFrames": SettingMeaning(
                "Earlier frames that the prior of a frame's latents reads; 0 makes frames independent of one another",
                "0 to 1024"),
            "priorHidden": SettingMeaning("Channels of the prior's residual networks", "1 to 4096"),
            "priorBlocks": SettingMeaning("Residual blocks of the prior's networks", "0 to 64"),
            "levels": SettingMeaning("Whole numbers 0 ..< levels as data; 0 for real ones", "0, or 2 to 65536"),
            "dequantization": SettingMeaning(
                "The noise that makes whole numbers continuous; variational noise is computed from its own frame",
                "uniform, variational"),
            "alpha": SettingMeaning(
                "x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves x in [0, 1)", "below 0.5"),
        ]
    }
}

extension ImageTransformer.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning(
                "Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them",
                "2 to 65536"),
            "width": SettingMeaning("The length of every position's vector, a multiple of heads", "1 to 65536"),
            "heads": SettingMeaning("Heads of attention", "1 to width"),
            "blocks": SettingMeaning("Blocks of attention and network", "0 to 1024"),
            "positions": SettingMeaning(
                "How a position is told where it is: by a vector that is learned, or by turning queries and keys",
                "learned, rotary"),
            "pattern": SettingMeaning(
                "Which of the earlier variables a position reads: all, the last N, these and every Nth, or the last row's worth and its column in turns",
                "causal, window:N, strided:N, axial"),
            "dropout": SettingMeaning(
                "The share of numbers behind each block that a training step leaves out", "0 to below 1"),
        ]
    }
}

extension MADE.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "hidden": SettingMeaning("Units of each hidden layer", "up to 64 layers of 1 to 1048576 units"),
            "activation": SettingMeaning("The function between layers", "relu, tanh, sigmoid, softplus"),
            "conditional": SettingMeaning(
                "What a variable is given those before it",
                "bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, table:COMPONENTS"),
            "leastScale": SettingMeaning(
                "No component of a table's mixtures is narrower, in standard deviations of its column",
                "between 0 and 1"),
            "ordering": SettingMeaning("The order of the variables", "natural, random, or all their numbers"),
            "orderAgnostic": SettingMeaning("A new order for every mask", "true, false"),
            "masks": SettingMeaning(
                "How many masks are cycled, or fresh for a new one at every step", "1 to 1048576, or fresh"),
            "ensemble": SettingMeaning(
                "Masks in the ensemble that is evaluated and sampled, of a finite list at most all; 0 takes all of a list of up to 1024, or 8 fresh ones. Of an orderless network its orders: that of ordering, then random ones",
                "0 to 65536"),
            "direct": SettingMeaning("Connections from inputs to outputs", "true, false"),
            "dropout": SettingMeaning("The share of hidden units that a training step leaves out", "0 to below 1"),
            "orderless": SettingMeaning(
                "A network for every order and any gaps, which reads what is known and which it is (OrderlessNADE), in place of masks",
                "true, false"),
        ]
    }
}

extension PixelCNN.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning(
                "Values of a variable: 2 makes the conditionals Bernoulli, more, up to 65536, a softmax over all of them",
                "2 to 65536"),
            "channels": SettingMeaning(
                "Feature maps (2h of the paper), a multiple of twice the image's channels", "1 to 65536"),
            "blocks": SettingMeaning("Residual blocks", "0 to 1024"),
            "kernel": SettingMeaning(
                "The odd extent of the blocks' masked convolutions, 3 in the paper. A conditional reads 3 + blocks * (kernel / 2) rows above its own",
                "odd, 1 to 31"),
            "headChannels": SettingMeaning(
                "Feature maps of the first 1x1 convolution behind the blocks; 0 takes channels", "0 to 65536"),
            "positionEmbedding": SettingMeaning(
                "Whether the network is told where a pixel is; away from the edges it cannot see that otherwise",
                "true, false"),
            "dropout": SettingMeaning(
                "The share of a block's feature maps that a training step leaves out; not in the paper", "0 to below 1"),
        ]
    }
}

extension PixelCNNPlusPlus.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning("Values of a variable", "2 to 65536"),
            "channels": SettingMeaning("Feature maps of each stream", "1 to 65536"),
            "scales": SettingMeaning("Sizes of the image that are worked at; the paper has 3", "1 to 6"),
            "blocks": SettingMeaning("Residual blocks at each size; the paper has 5", "0 to 1024"),
            "components": SettingMeaning("Logistics of each mixture", "1 to 1024"),
            "dropout": SettingMeaning(
                "The share of feature maps within a block that a training step leaves out", "0 to below 1"),
        ]
    }
}

extension PixelSNAIL.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning(
                "Values of a variable: 2 makes the conditionals Bernoulli, more a mixture of discretized logistics",
                "2 to 65536"),
            "channels": SettingMeaning("Feature maps, a multiple of twice the heads", "1 to 65536"),
            "blocks": SettingMeaning("Blocks with attention at their ends; the paper has 12", "0 to 1024"),
            "residuals": SettingMeaning("Residual blocks of each; the paper has 4", "0 to 1024"),
            "heads": SettingMeaning("Heads of attention; the paper has 1", "1 to channels"),
            "queryDepth": SettingMeaning("Numbers of a query; the paper has 16", "1 to 4096"),
            "components": SettingMeaning("Logistics of each mixture", "1 to 1024"),
            "dropout": SettingMeaning(
                "The share of feature maps within a block that a training step leaves out", "0 to below 1"),
        ]
    }
}

extension Flow.PatchSettings {
    public static var meanings: [String: SettingMeaning] {
        [
            "patch": SettingMeaning(
                "The side of a patch, a power of two that divides height and width", "1, 2, 4, .. 64"),
            "blocks": SettingMeaning("Autoregressive blocks, of orders that are reversed in turns", "1 to 256"),
            "layers": SettingMeaning("Attention blocks of each", "0 to 256"),
            "width": SettingMeaning("The length of every patch's vector, a multiple of heads", "1 to 65536"),
            "heads": SettingMeaning("Heads of attention", "1 to width"),
            "dropout": SettingMeaning(
                "The share of numbers behind each attention block that a training step leaves out", "0 to below 1"),
            "limit": SettingMeaning(
                "Log-scales of a block lie between -limit and limit; 0 leaves them free", "at least 0"),
            "noise": SettingMeaning(
                "The standard deviation of what training adds to images in -1 ... 1; draws are denoised by it",
                "at least 0"),
            "levels": SettingMeaning("Whole numbers 0 ..< levels as data; 0 for real ones", "0, or 2 to 65536"),
            "dequantization": SettingMeaning("The noise that makes whole numbers continuous", "uniform, variational"),
        ]
    }
}

extension VAE.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "posterior": SettingMeaning(
                "The flow that carries the posterior",
                "diagonal, planar:LAYERS, householder:REFLECTIONS, sylvester-orthogonal:COLUMNS, sylvester-householder:REFLECTIONS, sylvester-triangular:LAYERS, iaf:LAYERS"
            ),
            "latents": SettingMeaning("Numbers of a latent vector", "2 to 4096"),
            "hidden": SettingMeaning(
                "Units of each layer of the encoder, and backwards of the decoder", "1 to 65536 units each"),
            "iafHidden": SettingMeaning("Units of an IAF layer's network", "1 to 65536 units each"),
            "prior": SettingMeaning(
                "The distribution of the latents, the standard normal or a flow", "normal, realnvp:LAYERS, maf:LAYERS"),
            "priorHidden": SettingMeaning(
                "Units of each hidden layer of the prior's networks, where it is a flow", "1 to 65536 units each"),
            "draws": SettingMeaning("Draws of the importance-weighted bound that is reported", "1 to 5000"),
            "conditional": SettingMeaning(
                "What a variable is given the latents",
                "bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, table:COMPONENTS"),
            "leastScale": SettingMeaning(
                "No component of a table's mixtures is narrower, in standard deviations of its column",
                "between 0 and 1"),
        ]
    }
}

/// Of flows of vectors that take whole numbers with noise.
private let wholeNumberMeanings = [
    "levels": SettingMeaning(
        "Whole numbers 0 ..< levels as data: uniform noise is added and they are divided by levels; 0 for real data",
        "0, or 2 to 65536"),
    "alpha": SettingMeaning(
        "For whole numbers: x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves them in [0, 1)",
        "below 0.5"),
]

extension Flow.VectorSettings {
    public static var meanings: [String: SettingMeaning] {
        [
            "flow": SettingMeaning(
                "Which flow", "nice, realnvp, coupling, maf, maf-mog, autoregressive, iaf, planar, radial"),
            "transformer": SettingMeaning(
                "What bends a variable, of coupling and autoregressive",
                "affine, spline:BINS, mixture:COMPONENTS, gaussians:COMPONENTS, sigmoidal:UNITS"),
            "layers": SettingMeaning("Layers of the flow", "1 to 256"),
            "hidden": SettingMeaning(
                "Units of each hidden layer of a conditioner", "up to 64 layers of 1 to 1048576 units"),
            "activation": SettingMeaning(
                "The function between layers of a conditioner", "relu, tanh, sigmoid, softplus"),
            "limit": SettingMeaning(
                "The bound of the log-scales of affine layers, |log s| < limit; 0 leaves them unbounded", "at least 0"),
            "splineBound": SettingMeaning("Half the side of the interval that a spline bends", "1e-30 to 1e30"),
            "base": SettingMeaning(
                "The distribution of the latents, conditional on what examples are given or not; nice and maf-mog have their own",
                "normal, conditional, logistic, student:DEGREES"),
            "circular": SettingMeaning("Columns, counted from 0, that are points of a circle", "numbers of columns"),
            "period": SettingMeaning("Once round the circle: 360 for degrees", "1e-6 to 1e6"),
            "normalization": SettingMeaning("What stands in front of every layer", "none, actNorm, batchNorm"),
            "components": SettingMeaning("Gaussians of maf-mog's base", "1 to 4096"),
        ].merging(wholeNumberMeanings) { $1 }
    }
}

extension VideoPixelNetwork.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning(
                "Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them",
                "2 to 65536"),
            "channels": SettingMeaning("Feature maps", "even, 1 to 65536"),
            "encoderBlocks": SettingMeaning("Residual blocks that read a frame", "0 to 1024"),
            "timeLayers": SettingMeaning("Convolutions over time", "0 to 8"),
            "decoderBlocks": SettingMeaning("Residual blocks of the PixelCNN of a frame", "0 to 256"),
        ]
    }
}

extension WaveNet.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning("Values of a sample", "2 to 65536"),
            "residual": SettingMeaning("Channels of the residual connections", "1 to 65536"),
            "skip": SettingMeaning("Channels of the skip connections", "1 to 65536"),
            "stacks": SettingMeaning("How often the dilations 1, 2, 4, ... run through", "1 to 1024"),
            "layers": SettingMeaning("Dilations of a stack", "1 to 20"),
            "output": SettingMeaning("What a sample's conditional is", "softmax, logistics"),
            "localChannels": SettingMeaning(
                "Channels of the features [channels, steps] that each step is conditioned on; 0 for none", "0 to 65536"),
        ]
    }
}

extension RecurrentModel.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning(
                "Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them",
                "2 to 65536"),
            "recurrence": SettingMeaning("What a layer computes in a step", "rnn, lstm, gru"),
            "units": SettingMeaning("Units of each layer", "1 to 65536"),
            "layers": SettingMeaning("Layers on top of one another", "1 to 64"),
            "dropout": SettingMeaning(
                "The share of outputs between layers, and in front of the conditionals, that a training step leaves out",
                "0 to below 1"),
            "truncation": SettingMeaning(
                "Gradients flow back through so many steps at most; 0 lets them flow through all", "0 to 16777216"),
        ]
    }
}

extension PixelRNN.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "levels": SettingMeaning(
                "Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them",
                "2 to 65536"),
            "layer": SettingMeaning("Which two-dimensional LSTM", "rowLSTM, diagonalBiLSTM"),
            "units": SettingMeaning(
                "Units of a layer at each pixel (h of the paper), a multiple of the image's channels", "1 to 65536"),
            "layers": SettingMeaning("Layers, each with its residual connection", "1 to 64"),
            "headChannels": SettingMeaning(
                "Feature maps of each of the two 1x1 convolutions in front of the conditionals", "1 to 65536"),
        ]
    }
}

/// Settings that the networks of vectors have in common.
private func networkMeanings(_ own: [String: SettingMeaning]) -> [String: SettingMeaning] {
    [
        "conditional": SettingMeaning(
            "What a variable is given those before it",
            "bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, table:COMPONENTS"),
        "leastScale": SettingMeaning(
            "No component of a table's mixtures is narrower, in standard deviations of its column", "between 0 and 1"),
        "ordering": SettingMeaning("The order of the variables", "natural, random, or all their numbers"),
    ].merging(own) { $1 }
}

extension FVBN.Settings {
    public static var meanings: [String: SettingMeaning] {
        networkMeanings([
            "penalty": SettingMeaning(
                "Half of it times the sum of squared weights is added to training's loss", "0 or more")
        ])
    }
}

extension BengioNetwork.Settings {
    public static var meanings: [String: SettingMeaning] {
        networkMeanings([
            "hidden": SettingMeaning("Hidden units of each variable's group", "1 to 65536"),
            "activation": SettingMeaning("The function of the hidden units", "relu, tanh, sigmoid, softplus"),
            "direct": SettingMeaning("Connections from inputs to outputs", "true, false"),
            "tied": SettingMeaning("Input weights that all groups share", "true, false"),
            "dropout": SettingMeaning("The share of hidden units that a training step leaves out", "0 to below 1"),
        ])
    }
}

extension NADE.Settings {
    public static var meanings: [String: SettingMeaning] {
        networkMeanings([
            "hidden": SettingMeaning("Hidden units of each variable", "1 to 1048576"),
            "activation": SettingMeaning("The function of the hidden units", "relu, tanh, sigmoid, softplus"),
            "tied": SettingMeaning(
                "One matrix for both layers; wants conditionals of as many parameters as inputs", "true, false"),
            "scaled": SettingMeaning("Each variable scales its activations by a number of its own", "true, false"),
            "dropout": SettingMeaning(
                "The share of hidden units that a training step leaves out, for all variables of an example alike",
                "0 to below 1"),
            "block": SettingMeaning("Variables of a step of the scan; only memory and time depend on it", "1 to 4096"),
        ])
    }
}

extension Autoencoder.Settings {
    public static var meanings: [String: SettingMeaning] {
        [
            "code": SettingMeaning("Numbers of the code", "1 to 65536"),
            "hidden": SettingMeaning(
                "Units of each dense layer of the encoder, and backwards of the decoder",
                "up to 64 layers of 1 to 65536 units"),
            "channels": SettingMeaning(
                "Feature maps of convolutions in front of the dense layers, each of which halves height and width; of images",
                "up to 8 of 1 to 4096"),
            "activation": SettingMeaning("The function between layers", "relu, tanh, sigmoid, softplus"),
            "conditional": SettingMeaning(
                "What a variable is given the code",
                "bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, table:COMPONENTS"),
            "leastScale": SettingMeaning(
                "No component of a table's mixtures is narrower, in standard deviations of its column",
                "between 0 and 1"),
            "corruption": SettingMeaning(
                "What training does to what the network reads, in deviations of a column",
                "none, masking:SHARE, saltpepper:SHARE, gaussian:DEVIATION"),
            "sparsity": SettingMeaning(
                "What is asked of the code: small absolute values, or units that are on at a rate",
                "none, l1:WEIGHT, kl:RATE:WEIGHT"),
            "steps": SettingMeaning("Steps of the Markov chain that a denoising one draws by", "1 to 1000"),
        ]
    }
}
