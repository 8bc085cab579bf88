/// The relation of a convolution, by classes of channels: channels that the mask treats alike are one class, so that the
/// work of an analysis grows with classes and taps, not with pairs of channels.
///
/// Output `(n, c, p)` reads input `(n, d, taps[t].sources[p])` for every tap `t` at which the class of `c` reads the class of
/// `d`.
public struct WindowRelation: Sendable {
    struct Tap: Sendable {
        /// For each output position the input position, negative where there is none.
        var sources: [Int32]
        /// For each output class the input classes that it reads.
        var reads: [[Int]]
    }

    let batch: Int
    let inputCount: Int
    let outputCount: Int
    /// The class of each channel.
    let inputClass: [Int]
    let outputClass: [Int]
    /// The channels of each class.
    let inputMembers: [[Int]]
    let outputMembers: [[Int]]
    let taps: [Tap]

    /// - Parameter isTransposed: the relation of the input gradient: input positions read output positions.
    init(_ g: ConvolutionGeometry, _ mask: ConvolutionMask?, batch: Int, isTransposed: Bool) {
        self.batch = batch
        let matrices: [BitMatrix] = (mask?.taps ?? []).compactMap { tap in
            if case .channels(let bits) = tap { bits } else { nil }
        }
        let words = { (count: Int, isSet: (Int) -> Bool) in
            var result = [UInt64](repeating: 0, count: (count + 63) / 64)
            for i in 0..<count where isSet(i) { result[i >> 6] |= 1 << UInt64(i & 63) }
            return result
        }
        let outputs = Self.classes(g.outputChannels) { o in
            [UInt64(o / g.outputsPerGroup)] + matrices.flatMap { bits in words(bits.columns) { bits[o, $0] } }
        }
        let inputs = Self.classes(g.inputChannels) { c in
            let (group, i) = (c / g.inputsPerGroup, c % g.inputsPerGroup)
            return [UInt64(group)]
                + matrices.flatMap { bits in
                    words(g.outputsPerGroup) { bits[group * g.outputsPerGroup + $0, i] }
                }
        }
        let sources = g.sources()
        var taps: [Tap] = []
        for tap in 0..<g.tapCount {
            var reads = [[Int]](repeating: [], count: isTransposed ? inputs.members.count : outputs.members.count)
            for (a, outputMembers) in outputs.members.enumerated() {
                for (b, inputMembers) in inputs.members.enumerated() {
                    let (o, c) = (outputMembers[0], inputMembers[0])
                    guard o / g.outputsPerGroup == c / g.inputsPerGroup,
                        mask?.isLive(output: o, input: c % g.inputsPerGroup, tap: tap) != false
                    else { continue }
                    if isTransposed { reads[b].append(a) } else { reads[a].append(b) }
                }
            }
            guard reads.contains(where: { !$0.isEmpty }) else { continue }
            var table = sources[tap]
            if isTransposed {
                table = [Int32](repeating: -1, count: g.inputCount)
                for (p, q) in sources[tap].enumerated() where q >= 0 { table[Int(q)] = Int32(p) }
            }
            taps.append(Tap(sources: table, reads: reads))
        }
        self.taps = taps
        (inputCount, outputCount) = isTransposed ? (g.outputCount, g.inputCount) : (g.inputCount, g.outputCount)
        (inputClass, inputMembers) = isTransposed ? outputs : inputs
        (outputClass, outputMembers) = isTransposed ? inputs : outputs
    }

    private static func classes(_ count: Int, _ signature: (Int) -> [UInt64]) -> (of: [Int], members: [[Int]]) {
        var known: [[UInt64]: Int] = [:]
        var of: [Int] = []
        var members: [[Int]] = []
        for channel in 0..<count {
            let key = signature(channel)
            let index = known[key] ?? members.count
            if index == members.count {
                known[key] = index
                members.append([])
            }
            of.append(index)
            members[index].append(channel)
        }
        return (of, members)
    }

    func gather<V>(_ source: [V], into target: inout [V], none: V, combine: (inout V, V) -> Void) {
        for n in 0..<batch {
            // The values of all channels of an input class combined, position by position.
            let planes = inputMembers.map { members in
                var plane = [V](repeating: none, count: inputCount)
                for channel in members {
                    let base = (n * inputClass.count + channel) * inputCount
                    for q in 0..<inputCount { combine(&plane[q], source[base + q]) }
                }
                return plane
            }
            for (index, members) in outputMembers.enumerated() {
                var plane = [V](repeating: none, count: outputCount)
                for tap in taps {
                    for other in tap.reads[index] {
                        for p in 0..<outputCount where tap.sources[p] >= 0 {
                            combine(&plane[p], planes[other][Int(tap.sources[p])])
                        }
                    }
                }
                for channel in members {
                    let base = (n * outputClass.count + channel) * outputCount
                    for p in 0..<outputCount { combine(&target[base + p], plane[p]) }
                }
            }
        }
    }

    func scatter(_ outputs: [Bool], into inputs: inout [Bool]) {
        for n in 0..<batch {
            var planes = inputMembers.map { _ in [Bool](repeating: false, count: inputCount) }
            for (index, members) in outputMembers.enumerated() {
                var plane = [Bool](repeating: false, count: outputCount)
                for channel in members {
                    let base = (n * outputClass.count + channel) * outputCount
                    for p in 0..<outputCount where outputs[base + p] { plane[p] = true }
                }
                guard plane.contains(true) else { continue }
                for tap in taps {
                    for other in tap.reads[index] {
                        for p in 0..<outputCount where plane[p] && tap.sources[p] >= 0 {
                            planes[other][Int(tap.sources[p])] = true
                        }
                    }
                }
            }
            for (index, members) in inputMembers.enumerated() {
                for channel in members {
                    let base = (n * inputClass.count + channel) * inputCount
                    for q in 0..<inputCount where planes[index][q] { inputs[base + q] = true }
                }
            }
        }
    }

    func forEachSource(of element: Int, _ body: (Int) -> Void) {
        let (n, p) = (element / (outputCount * outputClass.count), element % outputCount)
        let index = outputClass[element / outputCount % outputClass.count]
        for tap in taps where tap.sources[p] >= 0 {
            for other in tap.reads[index] {
                for channel in inputMembers[other] {
                    body((n * inputClass.count + channel) * inputCount + Int(tap.sources[p]))
                }
            }
        }
    }
}
