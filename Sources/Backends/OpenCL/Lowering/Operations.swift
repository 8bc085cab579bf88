import Compiler
import Graph

// The operations outside the fused families, on OpenCL devices.

/// One work-item for each of `count` elements, in groups of 64.
private func launch(_ kernel: String, _ arguments: [OpenCLArgument], count: Extent) -> OpenCLOperationStep {
    .launch(kernel, arguments + [.extent(count)], groups: { [(count.resolved(batch: $0) + 63) / 64] }, local: [64])
}

extension Gather: OpenCLOperation {
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        let (data, indices, output) = (context.inputTypes[0], context.inputTypes[1], context.outputTypes[0])
        let inner = Shape(Array(data.shape.dimensions[(axis + 1)...])).count
        let type = elementStorage(data.element)
        return OpenCLOperationPlan(
            source: """
                __kernel void gather(__global const \(type)* data, __global const int* indices, __global \(type)* output,
                                     int n, int inner, int chosen, int count) {
                    const int e = get_global_id(0);
                    if (e >= count) return;
                    const int i = clamp(indices[e / inner % chosen], 0, n - 1);
                    output[e] = data[(e / (inner * chosen) * n + i) * inner + e % inner];
                }
                """,
            steps: [
                launch(
                    "gather",
                    [
                        .input(0), .input(1), .output(0), .extent(data.shape[axis]), .extent(inner),
                        .extent(indices.shape.count),
                    ],
                    count: output.shape.count)
            ])
    }
}

extension ScatterAdd: OpenCLOperation {
    /// Every element of the result adds its updates in their order: a fixed sum without atomics.
    ///
    /// Where there are enough lines (an embedding's channels, the examples of a batch) each has a work-item that goes once through the
    /// updates. Otherwise each element of the result has one, which looks at all indices.
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        let (indices, output) = (context.inputTypes[1], context.outputTypes[0])
        let inner = Shape(Array(output.shape.dimensions[(axis + 1)...])).count
        let lines = Shape(Array(output.shape.dimensions[..<axis])).count * inner
        let numbers: [OpenCLArgument] = [.constant(count), .extent(inner), .extent(indices.shape.count)]
        let given: [OpenCLArgument] = [.input(0), .input(1), .output(0)] + numbers
        guard lines.resolved(batch: context.maximumBatch) < 64 else {
            return OpenCLOperationPlan(
                source: """
                    __kernel void clear(__global float* output, int count) {
                        const int e = get_global_id(0);
                        if (e < count) output[e] = 0.0f;
                    }

                    __kernel void lines(__global const float* updates, __global const int* indices, __global float* output,
                                        int n, int inner, int given, int count) {
                        const int line = get_global_id(0);
                        if (line >= count) return;
                        const int r = line / inner, c = line % inner;
                        for (int i = 0; i < given; i++) {
                            output[(r * n + clamp(indices[i], 0, n - 1)) * inner + c] += updates[(r * given + i) * inner + c];
                        }
                    }
                    """,
                steps: [launch("clear", [.output(0)], count: output.shape.count), launch("lines", given, count: lines)])
        }
        return OpenCLOperationPlan(
            source: """
                __kernel void elements(__global const float* updates, __global const int* indices, __global float* output,
                                       int n, int inner, int given, int count) {
                    const int e = get_global_id(0);
                    if (e >= count) return;
                    const int target = e / inner % n, r = e / (inner * n), c = e % inner;
                    float sum = 0.0f;
                    for (int i = 0; i < given; i++) {
                        if (clamp(indices[i], 0, n - 1) == target) sum += updates[(r * given + i) * inner + c];
                    }
                    output[e] = sum;
                }
                """,
            steps: [launch("elements", given, count: output.shape.count)])
    }
}

extension CumulativeSum: OpenCLOperation {
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        let shape = context.inputTypes[0].shape
        let inner = Shape(Array(shape.dimensions[(axis + 1)...])).count
        let lines = Shape(Array(shape.dimensions[..<axis])).count * inner
        return OpenCLOperationPlan(
            source: """
                __kernel void running(__global const float* input, __global float* output, int n, int inner, int lines) {
                    const int line = get_global_id(0);
                    if (line >= lines) return;
                    const int base = line / inner * n * inner + line % inner;
                    float sum = 0.0f;
                    for (int step = 0; step < n; step++) {
                        const int e = base + (\(isReversed ? "n - 1 - step" : "step")) * inner;
                        const float next = sum + input[e];
                        output[e] = \(isExclusive ? "sum" : "next");
                        sum = next;
                    }
                }
                """,
            steps: [launch("running", [.input(0), .output(0), .extent(shape[axis]), .extent(inner)], count: lines)])
    }
}

// Small matrices: on a GPU by Kernels/matrices.cl, so that a step waits for nothing.

/// On an OpenCL processor by their definition, in double precision as on the CPU backend: its memory is the host's.
private func planByDefinition(_ operation: any Operation, _ context: OpenCLOperationContext) -> OpenCLOperationPlan {
    let (inputTypes, outputTypes) = (context.inputTypes, context.outputTypes)
    return OpenCLOperationPlan(steps: [
        .host { host in
            let inputs = try inputTypes.indices.map { try host.read(input: $0).values }
            var outputs = outputTypes.map { Values(shape: $0.shape.resolved(batch: host.batch)) }
            operation.evaluate(
                inputs, outputs: &outputs, elements: nil,
                context: EvaluationContext(batch: host.batch, inputTypes: inputTypes.map(\.element)))
            for (index, value) in outputs.enumerated() {
                try host.write(HostArray(value, as: outputTypes[index].element), output: index)
            }
        }
    ])
}

extension MatrixOperation: OpenCLOperation {
    /// A work-group for each matrix.
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        guard context.family == .gpu, context.inputTypes[0].element == .float32 else {
            return planByDefinition(self, context)
        }
        let shape = context.inputTypes[0].shape
        let matrices = Shape(Array(shape.dimensions.dropLast(2))).count
        let n = shape[-1].coefficient
        let count = matrices.resolved(batch: context.maximumBatch)
        // Numbers of two floats; an order of rows.
        let (work, order) = (count * n * n * 8, count * n * 4)
        let (kernel, operands, scratch): (String, [OpenCLArgument], [Int]) =
            switch function {
            case .lu: ("matrix_lu", [.output(0), .output(1), .scratch(0)], [work])
            case .logAbsoluteDeterminant:
                ("matrix_determinant", [.output(0), .scratch(0), .scratch(1)], [work, order])
            case .inverse:
                ("matrix_inverse", [.output(0), .scratch(0), .scratch(1), .scratch(2)], [work, work, order])
            }
        return OpenCLOperationPlan(
            source: KernelText.matrices, scratch: scratch,
            steps: [
                .launch(
                    kernel, [.input(0)] + operands + [.constant(n)], groups: { [matrices.resolved(batch: $0)] },
                    local: [64])
            ])
    }
}

extension TriangularSolve: OpenCLOperation {
    /// A work-item for each column of the right-hand sides.
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        guard context.family == .gpu, context.inputTypes[0].element == .float32 else {
            return planByDefinition(self, context)
        }
        let (n, shape) = (context.inputTypes[0].shape[-1].coefficient, context.inputTypes[1].shape)
        let columns = shape.removing(axes: [shape.rank - 2]).count
        return OpenCLOperationPlan(
            source: KernelText.matrices, scratch: [shape.count.resolved(batch: context.maximumBatch) * 8],
            steps: [
                launch(
                    "triangular_solve",
                    [
                        .input(0), .input(1), .output(0), .scratch(0), .constant(n), .extent(shape[-1]),
                        .constant(isLower != isTransposed ? 1 : 0), .constant(isTransposed ? 1 : 0),
                    ], count: columns)
            ])
    }
}

extension CustomOperation: OpenCLOperation {
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        OpenCLOperationPlan(
            source: openCL,
            steps: [
                launch(
                    name, context.inputTypes.indices.map { .input($0) } + [.output(0)],
                    count: context.outputTypes[0].shape.count)
            ])
    }
}

extension SegmentedSum: OpenCLElementOperation {
    /// What each addition rounds away is carried along, so that a sum is rounded once, as on the processor.
    public func elementOpenCL(_ context: OpenCLElementContext) -> String {
        let starts = segments.map { "\($0.lowerBound)" } + ["\(lengths.reduce(0, +))"]
        let inner = context.text(
            Shape(Array(context.outputType.shape.dimensions[(axis + 1)...])).count)
        return """
            const int starts[] = {\(starts.joined(separator: ", "))};
            const int inner = \(inner), s = e / inner % \(lengths.count);
            __global const float* x = x0 + e / (inner * \(lengths.count)) * (inner * \(starts.last!)) + e % inner;
            float total = 0.0f, rest = 0.0f;
            for (int i = starts[s]; i < starts[s + 1]; i++) MARTLET_ADD(float, total, rest, x[i * inner]);
            return MARTLET_ROUNDED(total, rest);
            """
    }
}
