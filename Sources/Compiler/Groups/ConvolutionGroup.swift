import Graph

/// A convolution or one of its gradients over the live weights of a mask, then
/// `outputs = epilogue(result, epilogueInputs)`.
///
/// Operands by role: `forward` takes x and the weight, `inputGradient` dy and the weight, `weightGradient` dy and x.
///
/// The channels of a forward result may be split into two halves that the epilogue reads together, as a gate does.
public struct ConvolutionGroup: GroupKind {
    public var role: Convolution.Role
    public var geometry: ConvolutionGeometry
    public var mask: ConvolutionMask?
    public var batch: Extent
    /// Over `[batch, channels, spatial..]`.
    public var a: Operand
    /// Over `[out, in / groups, kernel..]`, or `[batch, channels, spatial..]` for a weight gradient.
    public var b: Operand
    /// 1, or 2 where the epilogue takes channel c of the first half and channel c of the second half at once; only for
    /// `forward` without groups.
    public var sections: Int
    /// Over the axes of `shape`.
    public var epilogueInputs: [Operand]
    /// The first registers are the result, one for each section; the others are `epilogueInputs`.
    public var epilogue: Program
    public var outputs: [Operand]

    public init(
        role: Convolution.Role, geometry: ConvolutionGeometry, mask: ConvolutionMask? = nil, batch: Extent, a: Operand,
        b: Operand, sections: Int = 1, epilogueInputs: [Operand], epilogue: Program, outputs: [Operand]
    ) {
        self.role = role
        self.geometry = geometry
        self.mask = mask
        self.batch = batch
        self.a = a
        self.b = b
        self.sections = sections
        self.epilogueInputs = epilogueInputs
        self.epilogue = epilogue
        self.outputs = outputs
    }

    /// The axes of a section of the result.
    public var shape: [Extent] {
        switch role {
        case .forward: [batch, Extent(geometry.outputChannels / sections)] + geometry.output.map { Extent($0) }
        case .inputGradient: [batch, Extent(geometry.inputChannels)] + geometry.input.map { Extent($0) }
        case .weightGradient: geometry.weightShape.map { Extent($0) }
        }
    }
}

extension ConvolutionGroup {
    public var reading: [Walk] {
        func axes(_ channels: Int, _ spatial: [Int]) -> [Extent] {
            [batch, Extent(channels)] + spatial.map { Extent($0) }
        }
        let x = axes(geometry.inputChannels, geometry.input)
        let y = axes(geometry.outputChannels, geometry.output)
        let weight = geometry.weightShape.map { Extent($0) }
        return [
            Walk([a], over: role == .forward ? x : y), Walk([b], over: role == .weightGradient ? x : weight),
            Walk(epilogueInputs, over: shape),
        ]
    }
    public var writing: [Walk] { [Walk(outputs, over: shape)] }
    public var extents: [Extent] { shape }
}

extension Convolution: AnchorOperation {
    public func makeGroup(_ anchor: AnchorContext) -> any GroupKind {
        guard let geometry = try? geometry(anchor.inputs.map(\.type)) else {
            fatalError("\(name) was refused when its node was made")
        }
        let (a, b) = (anchor.operand(0), anchor.operand(1))
        let epilogue = anchor.epilogue()
        return ConvolutionGroup(
            role: role, geometry: geometry, mask: mask, batch: anchor.inputs[0].shape[0], a: a, b: b,
            sections: anchor.sections, epilogueInputs: epilogue.inputs, epilogue: epilogue.program,
            outputs: epilogue.outputs)
    }
}
