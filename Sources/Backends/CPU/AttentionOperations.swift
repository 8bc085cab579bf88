import CPUKernels
import Graph
import Synchronization

// Attention on the CPU: a task is a block of 64 queries, or keys, of a head of an example.

/// The tiles of a pattern, found once for each number of positions.
final class AttentionTables: Sendable {
    let byQueries: AttentionTiles
    let byKeys: AttentionTiles

    private struct Key: Hashable {
        let pattern: AttentionPattern
        let queries: Int
        let keys: Int
    }
    private static let known = Mutex<[Key: AttentionTables]>([:])

    private init(_ key: Key) {
        byQueries = key.pattern.tilesByQueries(queries: key.queries, keys: key.keys)
        byKeys = key.pattern.tilesByKeys(queries: key.queries, keys: key.keys)
    }

    static func of(_ pattern: AttentionPattern, queries: Int, keys: Int) -> AttentionTables {
        let key = Key(pattern: pattern, queries: queries, keys: keys)
        return known.withLock { known in
            if let tables = known[key] { return tables }
            let tables = AttentionTables(key)
            known[key] = tables
            return tables
        }
    }
}

extension AttentionTiles {
    fileprivate func withTables<R>(_ body: (martlet_attention_tiles) -> R) -> R {
        starts.withUnsafeBufferPointer { starts in
            tiles.withUnsafeBufferPointer { tiles in
                masks.withUnsafeBufferPointer { masks in
                    // An empty array has no address; nothing is read of it.
                    body(
                        martlet_attention_tiles(
                            starts: starts.baseAddress!, tiles: tiles.baseAddress ?? starts.baseAddress!,
                            masks: masks.baseAddress))
                }
            }
        }
    }
}

extension CPUOperationContext {
    /// Runs one of the kernels for every block of rows of every pair.
    /// - Parameter complete: adds what the kernel reads and writes to the description of the operands.
    fileprivate func runAttention(
        _ pattern: AttentionPattern, scale: Double, _ complete: (inout martlet_attention) -> Void,
        _ kernels: [(
            rows: KeyPath<martlet_attention, Int64>,
            run: (UnsafePointer<martlet_attention>, Int64, Int64, UnsafeMutablePointer<Float>) -> Void
        )]
    ) {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2])
        let pairs = q.shape[0] * q.shape[1]
        let tables = AttentionTables.of(pattern, queries: q.shape[3], keys: k.shape[3])
        let floats = Int(martlet_attention_work(Int64(q.shape[2]), Int64(v.shape[2])))
        withUnsafeTemporaryAllocation(of: Float.self, capacity: floats * threads) { work in
            tables.byQueries.withTables { byQueries in
                tables.byKeys.withTables { byKeys in
                    var attention = martlet_attention(
                        isa: isa, depth: Int64(q.shape[2]), valueDepth: Int64(v.shape[2]), queries: Int64(q.shape[3]),
                        keys: Int64(k.shape[3]), scale: Float(scale), byQueries: byQueries, byKeys: byKeys,
                        q: UnsafePointer(q.floats.baseAddress!), k: UnsafePointer(k.floats.baseAddress!),
                        v: UnsafePointer(v.floats.baseAddress!), output: nil, logSum: nil, knownLogSum: nil,
                        offset: nil, gradient: nil, dq: nil, dk: nil, dv: nil)
                    complete(&attention)
                    for kernel in kernels {
                        let blocks =
                            (Int(attention[keyPath: kernel.rows]) + AttentionTiles.size - 1) / AttentionTiles.size
                        withUnsafePointer(to: attention) { attention in
                            parallelFor(pairs * blocks) { task, worker in
                                // The last blocks of causal attention are the longest; they begin.
                                let (pair, block) = (task % pairs, blocks - 1 - task / pairs)
                                kernel.run(
                                    attention, Int64(pair), Int64(block), work.baseAddress! + floats * worker)
                            }
                        }
                    }
                }
            }
        }
    }
}

extension Attention: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws {
        guard context.inputs[0].count > 0, context.outputs[0].count > 0 else { return }
        guard context.outputs[0].element == .float32 else { return runByDefinition(self, context) }
        context.runAttention(
            pattern, scale: scale,
            {
                $0.output = context.outputs[0].floats.baseAddress
                $0.logSum = context.outputs[1].floats.baseAddress
            }, [(rows: \.queries, run: martlet_attention_forward)])
    }
}

extension AttentionGradient: CPUOperation {
    public func runCPU(_ context: CPUOperationContext) throws {
        guard context.inputs[0].count > 0, context.inputs[2].count > 0 else { return }
        guard context.outputs[0].element == .float32 else { return runByDefinition(self, context) }
        func floats(_ operand: CPUOperand) -> UnsafePointer<Float>? {
            operand.floats.baseAddress.map { UnsafePointer($0) }
        }
        context.runAttention(
            pattern, scale: scale,
            {
                $0.knownLogSum = floats(context.inputs[3])
                $0.offset = floats(context.inputs[4])
                $0.gradient = floats(context.inputs[5])
                $0.dq = context.outputs[0].floats.baseAddress
                $0.dk = context.outputs[1].floats.baseAddress
                $0.dv = context.outputs[2].floats.baseAddress
            },
            [(rows: \.queries, run: martlet_attention_queries), (rows: \.keys, run: martlet_attention_keys)])
    }
}
