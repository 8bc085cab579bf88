import Kernels

/// The OpenCL C that is written by hand (the folder Kernels), embedded in the binary.
enum KernelText {
    static let common = text(martlet_kernel_common_text())
    static let random = text(martlet_random_text())
    static let degrees = text(martlet_kernel_degrees_text())
    static let productGPU = text(martlet_kernel_product_gpu_text())
    static let productCPU = including(packB, "pack_b", in: text(martlet_kernel_product_cpu_text()))
    static let productFinish = text(martlet_kernel_product_finish_text())
    static let pack = including(packB, "pack_b", in: text(martlet_kernel_pack_text()))
    static let convolutionCPU = text(martlet_kernel_convolution_cpu_text())
    static let convolutionGPU = text(martlet_kernel_convolution_gpu_text())
    static let attention = text(martlet_kernel_attention_text())
    static let matrices = text(martlet_kernel_matrices_text())
    static let mask = text(martlet_kernel_mask_text())
    static let maskEnd = text(martlet_kernel_mask_end_text())

    /// The sampler's interpreter with its cases, and a family's kernels.
    static func sampler(_ family: KernelFamily, cases: String) -> String {
        including(cases, "cases", in: text(martlet_kernel_sampler_text())) + (family == .cpu ? samplerCPU : samplerGPU)
    }

    private static let samplerCPU = text(martlet_kernel_sampler_cpu_text())
    private static let samplerGPU = text(martlet_kernel_sampler_gpu_text())
    private static let packB = text(martlet_kernel_pack_b_text())

    /// Programs are one text without files, so a file that two kernels share is put where they name it.
    private static func including(_ part: String, _ name: String, in whole: String) -> String {
        whole.replacing("// @include \(name)\n", with: part)
    }

    private static func text(_ pointer: UnsafePointer<CChar>) -> String { String(cString: pointer) }
}
