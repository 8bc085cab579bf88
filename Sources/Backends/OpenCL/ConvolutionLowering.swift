import Compiler
import Graph

/// Lowers a convolution with its epilogue.
struct ConvolutionLowering {
    let group: ConvolutionGroup
    let label: String
    init(_ group: ConvolutionGroup, label: String) throws {
        self.group = group
        self.label = label
    }
    func lower(_ lowering: inout LoweringContext) throws -> LoweredGroup { throw OpenCLError.unsupported(label) }
}
