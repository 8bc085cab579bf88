import Lab

extension Experiment {
    /// Every experiment of the program `martlet`.
    public static let papers: [Experiment] =
        [madeGlyphs, madeMNIST, madeMNISTPaper] + madeUCI + [made] + pixelModels + sequenceModels
        + [mafBSDS300, realNVPBSDS300] + flowImages + flowDensities
}
