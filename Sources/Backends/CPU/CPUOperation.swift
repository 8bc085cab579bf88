import CPUKernels
import Graph

/// An operation that the CPU backend runs as a whole, on contiguous values.
public protocol CPUOperation: Operation {
    func runCPU(_ context: CPUOperationContext) throws
}

/// An independent operation on the CPU: elements of its result at any positions.
public protocol CPUElementOperation: Operation {
    /// Computes the elements at some flat, row-major positions of the result, one after another into `target`, which holds numbers of the
    /// result's type. Called on several threads at once.
    func runCPU(
        _ positions: UnsafeBufferPointer<Int32>, into target: UnsafeMutableRawPointer, _ context: CPUElementContext)
}

/// What an independent operation reads.
public struct CPUElementContext {
    /// The operands, whole.
    public let inputs: [CPUOperand]
    /// The result's shape in this run, and its type.
    public let shape: [Int]
    public let element: ElementType
}

/// A contiguous row-major array that an operation reads or writes.
public struct CPUOperand {
    public let pointer: UnsafeMutableRawPointer
    public let shape: [Int]
    public let element: ElementType

    public var count: Int { shape.reduce(1, *) }

    /// The elements as floats; `element` is `.float32`.
    public var floats: UnsafeMutableBufferPointer<Float> { elements(Float.self) }
    /// The elements as doubles; `element` is `.float64`.
    public var doubles: UnsafeMutableBufferPointer<Double> { elements(Double.self) }
    /// The elements as integers; `element` is `.int32`.
    public var integers: UnsafeMutableBufferPointer<Int32> { elements(Int32.self) }
    /// The elements as bytes; `element` is `.uint8` or `.bool`.
    public var bytes: UnsafeMutableBufferPointer<UInt8> { elements(UInt8.self) }

    public func elements<T>(_ type: T.Type) -> UnsafeMutableBufferPointer<T> {
        UnsafeMutableBufferPointer(start: pointer.assumingMemoryBound(to: type), count: count)
    }
}

/// What an operation is given to run on the CPU.
public struct CPUOperationContext {
    public let inputs: [CPUOperand]
    public let outputs: [CPUOperand]
    public let batch: Int
    let pool: OpaquePointer
    let isa: martlet_isa

    /// The threads that `parallelFor` uses.
    public var threads: Int { Int(martlet_pool_threads(pool)) }

    /// Runs `body(index, worker)` for every index below `count` on all threads, and waits. Which worker takes which index is
    /// not fixed, so results may depend on the index alone; `worker` is below `threads`, for scratch memory.
    public func parallelFor(_ count: Int, _ body: (_ index: Int, _ worker: Int) -> Void) {
        withoutActuallyEscaping(body) { body in
            var box = ParallelBody(run: body)
            withUnsafeMutablePointer(to: &box) { box in
                martlet_pool_run(
                    pool, Int64(count),
                    { context, index, worker in
                        context!.assumingMemoryBound(to: ParallelBody.self).pointee.run(Int(index), Int(worker))
                    }, box)
            }
        }
    }
}

private struct ParallelBody {
    let run: (Int, Int) -> Void
}
