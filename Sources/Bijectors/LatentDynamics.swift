import Graph
import Layers

/// The latents of one level of a video's frames, given earlier frames and the level above (Kumar et al. 2019, "VideoFlow", section 4.2):
///
///     z[t] ~ N(m, s),    (m, log s) = network(z[t - 1], .., z[t - c], h[t])
///
/// as the bijector from z to standard normal noise, (z[t] - m) / s. Its Jacobian is triangular over the frames.
///
/// x is `[batch, kept + channels, frames, height, width]`. The first `kept` channels are h, what goes on to the levels above; they pass
/// unchanged. Noise depends on the frame that it is of and on earlier ones, and on no later one.
public struct LatentDynamics: Bijector {
    public let kept: Int
    public let channels: Int
    public let frames: Int
    /// How many earlier frames are read; with none a frame's latents depend on the level above alone.
    public let contextFrames: Int
    public let network: any Conditioner
    public let transformer: AffineTransformer

    /// - Parameters:
    ///   - contextFrames: c above; of more than there are the earlier ones are read.
    ///   - hidden, blocks: of the residual network.
    ///   - features: numbers that each example is conditioned on.
    ///   - limit: deviations lie in exp(-limit) ... exp(limit).
    public init(
        kept: Int, channels: Int, frames: Int, contextFrames: Int, hidden: Int, blocks: Int = 2, features: Int = 0,
        limit: Double = 4
    ) {
        trap(
            unless: kept >= 0 && channels >= 1 && frames >= 1 && contextFrames >= 0 && kept + contextFrames > 0,
            "latent dynamics read kept channels or earlier frames, found \(kept) kept, \(channels) channels, \(frames) frames and a context of \(contextFrames)"
        )
        (self.kept, self.channels, self.frames) = (kept, channels, frames)
        self.contextFrames = min(contextFrames, frames - 1)
        network = ResidualNetwork(
            // Beside the latents of each earlier frame, whether there is such a frame.
            kept + self.contextFrames * (channels + 1), hidden: hidden, blocks: blocks, outputs: 2 * channels,
            features: features, isVideo: true)
        transformer = AffineTransformer(.standardize, bound: .tanh(limit: limit))
    }

    private func halves(_ x: Tensor) -> (kept: Tensor?, latents: Tensor) {
        (
            kept == 0 ? nil : x.sliced(axis: 1, from: 0, count: kept),
            x.sliced(axis: 1, from: kept, count: channels)
        )
    }

    /// The means and raw log-deviations of latents.
    /// - Parameters:
    ///   - earlier: z of the frame before, of that before it, and so on, with a channel that is 1 where there is such a frame.
    ///   - latents: of the shape of which parameters are wanted.
    private func parameters(
        _ h: Tensor?, _ earlier: [Tensor], for latents: Tensor, _ context: Context
    ) -> [Tensor] {
        let inputs = (h.map { [$0] } ?? []) + earlier
        let x = inputs.count > 1 ? Tensor.concatenate(inputs, axis: 1) : inputs[0]
        return network(x, context).blocks(2, for: latents)
    }

    /// z with a channel of ones, by which a missing frame's zeros are told from latents.
    private func marked(_ z: Tensor) -> Tensor {
        let ones = Tensor.scalar(1, z.elementType).broadcast(to: Shape([z.shape[0], 1] + z.shape.dimensions[2...]))
        return .concatenate([z, ones], axis: 1)
    }

    /// The latents of x and the parameters of all frames at once.
    private func parallel(_ x: Tensor, _ context: Context) -> (latents: Tensor, parameters: [Tensor]) {
        let (h, z) = halves(x)
        let known = marked(z)
        let earlier = (0..<contextFrames).map { k in
            known.sliced(axis: 2, from: 0, count: frames - k - 1).padded(
                low: [0, 0, k + 1, 0, 0], high: [0, 0, 0, 0, 0])
        }
        return (z, parameters(h, earlier, for: z, context))
    }

    private func checked(_ x: Tensor) -> Tensor {
        if x.error != nil || x.shape.rank == 5 && x.shape[1] == Extent(kept + channels) && x.shape[2] == Extent(frames)
        {
            return x
        }
        return .misuse(
            "latent dynamics", "expected [batch, \(kept + channels), \(frames), height, width], found \(x.shape)", of: x
        )
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let x = checked(x)
        if x.error != nil { return Mapped(x, x) }
        let (z, parameters) = parallel(x, context)
        let (noise, log) = transformer.forward(z, parameters)
        return Mapped(joined(halves(x).kept, noise), log.summedOverEvent())
    }

    /// Frame after frame: each takes the network once.
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let x = checked(z)
        if x.error != nil { return Mapped(x, x) }
        let (h, noise) = halves(x)
        func frame(_ tensor: Tensor, _ t: Int) -> Tensor { tensor.sliced(axis: 2, from: t, count: 1) }
        let nothing = Tensor.scalar(0, noise.elementType)
            .broadcast(to: Shape([noise.shape[0], Extent(channels + 1), 1] + noise.shape.dimensions[3...]))
        var (latents, logs) = ([Tensor](), [Tensor]())
        for t in 0..<frames {
            let earlier = (0..<contextFrames).map { k in t - k - 1 < 0 ? nothing : marked(latents[t - k - 1]) }
            let own = frame(noise, t)
            let (value, log) = transformer.inverse(
                own, parameters(h.map { frame($0, t) }, earlier, for: own, context))
            latents.append(value)
            logs.append(log.summedOverEvent())
        }
        let all = frames > 1 ? Tensor.concatenate(latents, axis: 2) : latents[0]
        return Mapped(joined(h, all), logs.dropFirst().reduce(logs[0]) { $0 + $1 })
    }

    private func joined(_ h: Tensor?, _ latents: Tensor) -> Tensor {
        h.map { .concatenate([$0, latents], axis: 1) } ?? latents
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "latent dynamics over \(contextFrames) earlier frame\(contextFrames == 1 ? "" : "s")", .triangular,
            determinant:
                "minus the sum of log-deviations, as a frame's latents are read by later frames alone and the Jacobian is triangular",
            inverse: "frame after frame, one pass of the network for each")
    }

    /// A frame's parameters read what is kept of that frame and of earlier ones, and latents of earlier frames.
    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] {
        let x = checked(x)
        if x.error != nil { return [OrderClaim("latent dynamics", mistake: x, of: x)] }
        let shape = Array(x.shape.resolved(batch: 1).dropFirst())
        let places = (0..<shape.reduce(1, *)).map {
            (channel: $0 / shape.dropFirst().reduce(1, *), frame: frame($0, shape))
        }
        let variables = places.indices.filter { places[$0].channel >= kept }.map { Int32($0) }
        return [
            OrderClaim(
                "parameters", .concatenate(parallel(x, context).parameters, axis: 1), of: x,
                order: Order(index: places.map { Int32(2 * $0.frame + ($0.channel < kept ? 0 : 1)) }),
                variables: variables + variables)
        ]
    }

    /// The frame of an element of an example.
    private func frame(_ element: Int, _ shape: [Int]) -> Int { element / (shape[2] * shape[3]) % shape[1] }
}
