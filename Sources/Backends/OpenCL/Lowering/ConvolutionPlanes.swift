import Compiler
import Graph

/// Where the pixels of a convolution's source lie for kernels of the processor family: in copies with zeros around them, or
/// as they are.
struct ConvolutionPlanes {
    /// Distances of neighbouring positions of the first two axes; the third's are neighbours.
    let pitch: (Int, Int)
    let head: Int
    /// Positions of the first axis that are copied, from `start` on.
    let window: Int
    let start: Int
    let phasePitch: Int
    let planePitch: Int
    /// Whether the source is read where it lies.
    let isDirect: Bool
    /// Positions along each axis, over all passes.
    let extent: [Int]
    /// From a plane's first pixel to the next plane's.
    private let planeStride: Int

    /// - Parameter strides: of the source over image, plane and three axes, if no batch changes them.
    init(_ walk: ConvolutionTaps, strides: [Int]?) {
        var (width, before) = ([0, 0, 0], [0, 0, 0])
        var most = [0, 0, 0]
        for axis in 0..<3 {
            let count = walk.passes.map { $0.counts[axis] }.max() ?? 0
            let present = (walk.source[axis] + walk.sourceStep[axis] - 1) / walk.sourceStep[axis]
            before[axis] = max(0, -walk.leastShift[axis])
            let after = max(0, count + walk.greatestShift[axis] - present)
            // Zeros to the right of a row are those to the left of the next.
            width[axis] = max(present + max(before[axis], after), count)
            most[axis] = count
        }
        extent = most
        pitch = (width[1] * width[2], width[2])
        head = before[1] * width[2] + before[2]
        start = walk.leastShift[0]
        window = most[0] + walk.greatestShift[0] - walk.leastShift[0]
        let phases = walk.sourceStep.reduce(1, *)
        // Tiles read on behind the last pixel.
        phasePitch = head + window * width[1] * width[2] + 64
        planePitch = (phases * phasePitch + 15) / 16 * 16
        let pixels = width[1] * width[2] * most[0]
        let lies =
            strides.map { strides in
                (0..<3).allSatisfy { axis in
                    walk.source[axis] == 1 || strides[2 + axis] == [width[1] * width[2], width[2], 1][axis]
                }
            } ?? false
        // Neither padded nor stepped through, and at least a vector in every pass.
        isDirect =
            lies && phases == 1 && walk.passes.count == 1 && width == walk.source && walk.leastShift[0] >= 0
            && most[0] + walk.greatestShift[0] <= walk.source[0] && pixels >= 16
        planeStride = isDirect ? strides?[1] ?? 0 : planePitch
    }

    /// For each step of a table where it finds a pixel, from the image's first.
    func offsets(_ tables: ConvolutionTables, _ walk: ConvolutionTaps, _ pass: ConvolutionTaps.Pass) -> [Int32] {
        stride(from: 0, to: tables.steps.count, by: 4).map { step in
            let reach = (0..<3).map { Int(tables.steps[step + $0]) }
            // A source position is (m + shift) * step + phase.
            var (shift, phase) = ([0, 0, 0], [0, 0, 0])
            for axis in 0..<3 {
                phase[axis] =
                    (reach[axis] % walk.sourceStep[axis] + walk.sourceStep[axis]) % walk.sourceStep[axis]
                shift[axis] = (reach[axis] - phase[axis]) / walk.sourceStep[axis]
            }
            let index = (phase[0] * walk.sourceStep[1] + phase[1]) * walk.sourceStep[2] + phase[2]
            let inPlane =
                isDirect
                ? shift[0] * pitch.0 : index * phasePitch + head + (shift[0] - start) * pitch.0
            return Int32(Int(tables.steps[step + 3]) * planeStride + inPlane + shift[1] * pitch.1 + shift[2])
        }
    }
}
