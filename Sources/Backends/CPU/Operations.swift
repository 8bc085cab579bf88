import Compiler
import Graph

// The operations outside the fused families, on the CPU.

extension Gather: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws {
        let (data, indices, output) = (context.inputs[0], context.inputs[1].integers, context.outputs[0])
        let n = data.shape[axis]
        let outer = data.shape[..<axis].reduce(1, *)
        let bytes = data.shape[(axis + 1)...].reduce(1, *) * data.element.byteCount
        for r in 0..<outer {
            for i in indices.indices {
                let index = max(0, min(n - 1, Int(indices[i])))
                (output.pointer + (r * indices.count + i) * bytes).copyMemory(
                    from: data.pointer + (r * n + index) * bytes, byteCount: bytes)
            }
        }
    }
}

extension ScatterAdd: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws {
        if context.outputs[0].element == .float64 { return run(context, Double.self) }
        run(context, Float.self)
    }

    private func run<T: BinaryFloatingPoint>(_ context: CPUOperationContext, _: T.Type) {
        let (updates, indices, output) = (
            context.inputs[0].elements(T.self), context.inputs[1].integers, context.outputs[0].elements(T.self)
        )
        let outer = context.outputs[0].shape[..<axis].reduce(1, *)
        let inner = context.outputs[0].shape[(axis + 1)...].reduce(1, *)
        output.update(repeating: 0)
        for r in 0..<outer {
            for i in indices.indices {
                let target = (r * count + max(0, min(count - 1, Int(indices[i])))) * inner
                let source = (r * indices.count + i) * inner
                for c in 0..<inner { output[target + c] += updates[source + c] }
            }
        }
    }
}

extension CumulativeSum: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws {
        if context.outputs[0].element == .float64 { return run(context, Double.self) }
        run(context, Float.self)
    }

    private func run<T: BinaryFloatingPoint>(_ context: CPUOperationContext, _: T.Type) {
        let shape = context.inputs[0].shape
        let (input, output) = (context.inputs[0].elements(T.self), context.outputs[0].elements(T.self))
        let (n, inner) = (shape[axis], shape[(axis + 1)...].reduce(1, *))
        guard n > 0, input.count > 0, let x = input.baseAddress, let y = output.baseAddress else { return }
        // Lines that lie side by side are added up together, as vectors.
        let width = min(inner, 2048)
        let parts = (inner + width - 1) / width
        context.parallelFor(input.count / (n * inner) * parts) { part, _ in
            let start = part / parts * n * inner + part % parts * width
            let count = min(width, inner - part % parts * width)
            var sum: Int?
            for step in 0..<n {
                let e = start + (isReversed ? n - 1 - step : step) * inner
                let (target, added) = (y + e, x + (isExclusive ? sum ?? e : e))
                if let sum {
                    let before = y + sum
                    for c in 0..<count { target[c] = before[c] + added[c] }
                } else if isExclusive {
                    target.update(repeating: 0, count: count)
                } else {
                    target.update(from: added, count: count)
                }
                sum = e
            }
        }
    }
}

/// Small matrices are computed in double precision by their definition, and rounded once.
func runByDefinition(_ operation: any Operation, _ context: CPUOperationContext) {
    let inputs = context.inputs.map { $0.values }
    var outputs = context.outputs.map { Values(shape: $0.shape) }
    operation.evaluate(
        inputs, outputs: &outputs, elements: nil,
        context: EvaluationContext(batch: context.batch, inputTypes: context.inputs.map(\.element)))
    for (operand, value) in zip(context.outputs, outputs) { operand.assign(value) }
}

extension CPUOperand {
    var values: Values {
        switch element {
        case .float32: Values(shape: shape, elements: floats.map { Double($0) })
        case .float64: Values(shape: shape, elements: Array(doubles))
        case .int32: Values(shape: shape, elements: integers.map { Double($0) })
        case .uint8, .bool: Values(shape: shape, elements: bytes.map { Double($0) })
        }
    }

    func assign(_ values: Values) {
        HostArray(values, as: element).withUnsafeBytes {
            pointer.copyMemory(from: $0.baseAddress!, byteCount: $0.count)
        }
    }
}

extension MatrixOperation: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws { runByDefinition(self, context) }
}

extension TriangularSolve: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws { runByDefinition(self, context) }
}

extension CustomOperation: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws {
        cpu(context.inputs.map { UnsafeBufferPointer($0.floats) }, context.outputs[0].floats)
    }
}

extension SegmentedSum: CPUElementOperation {
    public func runCPU(
        _ positions: UnsafeBufferPointer<Int32>, into target: UnsafeMutableRawPointer, _ context: CPUElementContext
    ) {
        if context.element == .float64 { return run(positions, target.assumingMemoryBound(to: Double.self), context) }
        run(positions, target.assumingMemoryBound(to: Float.self), context)
    }

    private func run<T: BinaryFloatingPoint>(
        _ positions: UnsafeBufferPointer<Int32>, _ target: UnsafeMutablePointer<T>, _ context: CPUElementContext
    ) {
        let (x, shape) = (context.inputs[0].elements(T.self), context.inputs[0].shape)
        let (count, inner) = (shape[axis], shape[(axis + 1)...].reduce(1, *))
        let segments = segments
        for (i, position) in positions.enumerated() {
            let e = Int(position)
            let (r, s, c) = (e / (segments.count * inner), e / inner % segments.count, e % inner)
            target[i] = T(segments[s].reduce(0.0) { $0 + Double(x[(r * count + $1) * inner + c]) })
        }
    }
}
