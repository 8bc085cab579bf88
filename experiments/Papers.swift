import Lab

extension Experiment {
    /// Every experiment of the program `martlet`.
    public static let papers: [Experiment] =
        families + [madeGlyphs, madeMNIST, madeMNISTPaper] + madeUCI + pixelModels + sequenceModels
        + [mafBSDS300, realNVPBSDS300] + flowImages + flowDensities
}
