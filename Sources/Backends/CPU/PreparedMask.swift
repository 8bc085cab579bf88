import CPUKernels
import Compiler
import Graph

extension ProductGroup.Role {
    var kernels: martlet_role {
        switch self {
        case .forward: MARTLET_FORWARD
        case .inputGradient: MARTLET_INPUT_GRADIENT
        case .weightGradient: MARTLET_WEIGHT_GRADIENT
        }
    }
}

/// A mask prepared for the kernels; shared by every batch size.
final class PreparedMask {
    /// `nil` for float64 products, which test every element.
    let pointer: OpaquePointer?
    let plain: UnsafeMutablePointer<martlet_plain_mask>
    private let memory = PlanMemory()

    init(_ mask: ProductGroup.Mask, inputs: Int, outputs: Int, isDouble: Bool, instructionSet: InstructionSet)
        throws(CPUError)
    {
        let simple = Self.plain(mask.structure, memory)
        plain = memory.keep([simple])
        if isDouble {
            pointer = nil
            return
        }
        pointer = Self.prepare(
            mask.structure, simple, mask.role.kernels, Int64(inputs), Int64(outputs), instructionSet.kernels)
        if pointer == nil { throw CPUError.outOfMemory(byteCount: inputs * outputs / 8, purpose: "a mask") }
    }

    /// The degrees or bits as they are given; run-time degrees are filled in before each run.
    private static func plain(_ structure: MaskStructure, _ memory: PlanMemory) -> martlet_plain_mask {
        var plain = martlet_plain_mask()
        switch structure {
        case .degrees(let input, let output, let strict):
            plain.inputDegrees = UnsafePointer(memory.keep(input))
            plain.outputDegrees = UnsafePointer(memory.keep(output))
            plain.strict = strict ? 1 : 0
        case .runtime(let strict):
            plain.strict = strict ? 1 : 0
        case .matrix(let bits):
            plain.bits = UnsafePointer(memory.keep(bits.words))
            plain.wordsPerRow = Int64(bits.wordsPerRow)
        }
        return plain
    }

    /// Orders and live ranges for one role; `nil` when memory is short.
    private static func prepare(
        _ structure: MaskStructure, _ plain: martlet_plain_mask, _ role: martlet_role, _ inputs: Int64,
        _ outputs: Int64, _ isa: martlet_isa
    ) -> OpaquePointer? {
        switch structure {
        case .degrees:
            martlet_mask_create_constant(
                isa, role, inputs, outputs, plain.inputDegrees!, plain.outputDegrees!, plain.strict)
        case .runtime: martlet_mask_create_degrees(isa, role, inputs, outputs, plain.strict)
        case .matrix: martlet_mask_create_matrix(isa, role, inputs, outputs, plain.bits!, plain.wordsPerRow)
        }
    }

    deinit { if let pointer { martlet_mask_destroy(pointer) } }
}
