import Bijectors
import Graph
import Layers
import Likelihood

/// Variables and latents in groups, as the frames of a video, where no latent reads a variable of a later group than its own.
///
/// Then an example's first groups may be given: their latents follow from them alone, those of the other groups are drawn, and the
/// inverse gives back the groups that were given and a draw of the others given them. Of whole numbers the noise of the given groups is
/// drawn as for a density, before anything is known of the later ones.
public struct LatentGroups: Sendable {
    /// The group of each variable of an example.
    public let variables: Order
    /// The group of each latent.
    public let latents: [Int32]

    /// - Parameter latents: in row-major order of one example's latents.
    public init(variables: Order, latents: [Int32]) {
        (self.variables, self.latents) = (variables, latents)
    }

    /// How many groups from the first on are observed.
    /// - Throws: `UsageError` where others are observed, too, and the request does not accept to ignore them.
    func observed(_ pattern: [Bool], _ request: DrawingRequest) throws -> Int {
        try variables.requireFirst(
            pattern, request, advice: "give whole groups, or accept a draw that ignores the others with --approximate")
        return variables.groups.prefix { $0.allSatisfy { pattern[$0] } }.count
    }

    /// 1 for the latents of the first groups, of the shape of one example's.
    func isFirst(_ count: Int, _ latents: Shape, _ element: ElementType) -> Tensor {
        let flags = self.latents.map { $0 < Int32(count) ? 1.0 : 0 }
        let shape = Array(latents.resolved(batch: 1).dropFirst())
        return .constant(HostArray(Values(shape: shape, elements: flags), as: element)).broadcast(to: latents)
    }

    /// What makes the groups true: every latent reads variables of its own group and of earlier ones.
    ///
    /// A claim lets an element read what is drawn before its variable. For a latent to read its own group, it names a variable of the
    /// next group; behind the last group there is one variable more for that.
    func claim(_ shape: Shape, _ element: ElementType, _ latents: (Tensor) -> Tensor) -> OrderClaim {
        let count = variables.index.count
        let line = Tensor.ownVariable([.batch, Extent(count + 1)], element)
        let x = line.sliced(axis: 1, from: 0, count: count).reshaped(shape)
        let firsts = variables.groups.map { Int32($0[0]) } + [Int32(count)]
        return OrderClaim(
            "latents", latents(x), of: line, order: Order(index: variables.index + [Int32(variables.groupCount)]),
            variables: self.latents.map { firsts[Int($0) + 1] })
    }
}
