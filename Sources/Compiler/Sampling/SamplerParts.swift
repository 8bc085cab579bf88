import Graph

/// Where a tensor lies in a sampler.
struct SamplerPlace {
    var value: Int
    /// Which cursor moves it from one iteration of a loop to the next.
    var cursor = 0
    /// Its strides in the value's memory, if it does not lie there row by row from the start.
    var layout: StridedLayout?
}

/// What the builder of a graph's sampler, and those of its loops' bodies, have put together so far.
final class SamplerParts {
    var values: [SamplingProgram.Value] = []
    var works: [SamplingProgram.Work] = []
    var places: [Tensor: SamplerPlace] = [:]
    /// The sections of loops, in the order of their works.
    var loops: [SamplingProgram.Section] = []
    private(set) var cursors: [[Int32]] = [[]]
    /// Channels and positions of values that are not laid out as their tensors' shapes say, `[batch, channels, positions..]`.
    var channelShapes: [Int: (channels: Int, positions: Int)] = [:]
    /// Why there is no such sampler, if something turned out to have no place.
    var problem: SamplingError?

    func add(_ value: SamplingProgram.Value) -> Int {
        values.append(value)
        return values.count - 1
    }

    func addCursor(_ offsets: [Int32] = []) -> Int {
        cursors.append(offsets)
        return cursors.count - 1
    }

    func setCursor(_ cursor: Int, _ offsets: [Int32]) { cursors[cursor] = offsets }

    /// All sections: between those of loops, works whose slots are steps.
    func sections(stepCount: Int) -> [SamplingProgram.Section] {
        let once = (0..<stepCount).map { [SamplingProgram.Section.Pass(iteration: 0, slot: Int32($0))] }
        var (result, next): ([SamplingProgram.Section], Int) = ([], 0)
        for loop in loops {
            if next < loop.works.lowerBound {
                result.append(SamplingProgram.Section(next..<loop.works.lowerBound, passes: once))
            }
            result.append(loop)
            next = loop.works.upperBound
        }
        if next < works.count { result.append(SamplingProgram.Section(next..<works.count, passes: once)) }
        return result
    }
}

/// What a builder knows of elements: the step after which each can be computed, and whether it has to be. Of the tensors in a loop's body
/// there are several kinds, one for all iterations that are alike.
struct SamplerKind {
    /// Counted from an iteration's own start; see `Dependencies.levels`.
    var levels: [Tensor: [Int32]]
    var needed: [Tensor: [Bool]]
}

// MARK: where tensors lie

extension SamplerBuilder {
    /// The view that a tensor is of one that has memory, wherever that lies.
    func view(_ tensor: Tensor) -> View {
        fusion.view(tensor) { base in
            parts.places[base]?.layout.map { View(base: .tensor(base), layout: $0) }
        }
    }

    /// The view that is read to make the copy of a tensor.
    func source(ofCopy copied: Tensor) -> View {
        fusion.source(ofCopy: copied) { base in
            parts.places[base]?.layout.map { View(base: .tensor(base), layout: $0) }
        }
    }

    /// Where a tensor lies that has memory of its own, or that is given.
    func place(of tensor: Tensor) -> SamplerPlace {
        if let place = parts.places[tensor] { return place }
        let isGiven = tensor.node.isGiven
        if !fusion.isComputed(tensor), !tensor.node.isCounted, parts.problem == nil {
            parts.problem = unsupported(tensor.node)
        }
        if let loop, !isGiven {
            let place = loop.add(tensor)
            parts.places[tensor] = place
            return place
        }
        var storage = SamplingProgram.Value.Storage.temporary
        if tensor == variable {
            storage = .variable
        } else if let placeholder = tensor.placeholder {
            storage = placeholder.role == .input ? .input(placeholder.label) : .state(placeholder.label)
        } else if let array = tensor.node.constant {
            storage = .constant(array)
        }
        let place = SamplerPlace(
            value: parts.add(
                SamplingProgram.Value(
                    count: tensor.shape.count.resolved(batch: 1), element: tensor.elementType,
                    isShared: !tensor.shape.isBatched,
                    storage: storage, known: tensor == variable ? nil : dependencies.knownValues(tensor),
                    label: tensor.placeholder?.label ?? tensor.node.operation.name)))
        parts.places[tensor] = place
        return place
    }
}
