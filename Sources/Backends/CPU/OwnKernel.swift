import CPUKernels
import Graph

/// A function that the C kernels do not have, run in Swift.
protocol OwnKernel: AnyObject {
    /// `target[i]` from the elements i of the sources, for i below count; a source whose flag is set holds one element. Called on several
    /// threads at once.
    func run(
        _ target: UnsafeMutableRawPointer, _ sources: UnsafePointer<UnsafeRawPointer>, _ isScalar: UnsafePointer<UInt8>,
        count: Int)
}

/// A function by its meaning in double precision, one element after another.
final class MeaningKernel: OwnKernel {
    private let function: ElementwiseFunction
    private let types: [ElementType]
    private let result: ElementType

    init(_ step: ProgramSteps.Step) {
        function = step.meaning
        types = step.types
        result = step.to
    }

    func run(
        _ target: UnsafeMutableRawPointer, _ sources: UnsafePointer<UnsafeRawPointer>, _ isScalar: UnsafePointer<UInt8>,
        count: Int
    ) {
        var operands = [Double](repeating: 0, count: types.count)
        for i in 0..<count {
            for k in types.indices { operands[k] = types[k].load(sources[k], at: isScalar[k] != 0 ? 0 : i) }
            result.store(function(operands, types[0]), to: target, at: i)
        }
    }
}

/// Keeps kernels for the instructions that run them.
final class OwnKernelBox {
    let kernel: any OwnKernel
    init(_ kernel: any OwnKernel) { self.kernel = kernel }
}

extension ProgramSteps.Step {
    /// Lets an instruction run a kernel of ours.
    ///
    /// - Parameter kept: takes what has to live as long as the instruction.
    static func use(_ kernel: any OwnKernel, in instruction: inout martlet_instruction, _ kept: inout [OwnKernelBox]) {
        let box = OwnKernelBox(kernel)
        kept.append(box)
        instruction.meaning = { context, target, sources, isScalar, count in
            Unmanaged<OwnKernelBox>.fromOpaque(context).takeUnretainedValue().kernel
                .run(target, sources, isScalar, count: Int(count))
        }
        instruction.context = Unmanaged.passUnretained(box).toOpaque()
    }
}

extension ElementType {
    fileprivate func load(_ memory: UnsafeRawPointer, at i: Int) -> Double {
        switch self {
        case .float32: Double(memory.load(fromByteOffset: 4 * i, as: Float.self))
        case .float64: memory.load(fromByteOffset: 8 * i, as: Double.self)
        case .int32: Double(memory.load(fromByteOffset: 4 * i, as: Int32.self))
        case .uint8, .bool: Double(memory.load(fromByteOffset: i, as: UInt8.self))
        }
    }

    fileprivate func store(_ value: Double, to memory: UnsafeMutableRawPointer, at i: Int) {
        switch self {
        case .float32: memory.storeBytes(of: Float(value), toByteOffset: 4 * i, as: Float.self)
        case .float64: memory.storeBytes(of: value, toByteOffset: 8 * i, as: Double.self)
        case .int32: memory.storeBytes(of: Int32(saturating: value), toByteOffset: 4 * i, as: Int32.self)
        case .uint8:
            memory.storeBytes(of: UInt8(clamping: Int32(saturating: value)), toByteOffset: i, as: UInt8.self)
        case .bool: memory.storeBytes(of: value != 0 ? 1 : 0, toByteOffset: i, as: UInt8.self)
        }
    }
}
