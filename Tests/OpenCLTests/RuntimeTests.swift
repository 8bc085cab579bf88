import Compiler
import Foundation
import Graph
import Testing

@testable import OpenCL

/// An operation with its own kernel and a step of the host's.
private struct Cube: OpenCLOperation {
    var name: String { "cube" }
    var key: AnyHashable? { nil }
    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { inputs }
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [nil] }
    func relations(_ context: RelationContext) -> [Relation] { [.same] }
    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {}

    func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        let count = context.inputTypes[0].shape.count
        return OpenCLOperationPlan(
            source: """
                __kernel void square(__global const float* x, __global float* out, const int n) {
                    for (int i = get_global_id(0); i < n; i += get_global_size(0)) out[i] = x[i] * x[i];
                }
                __kernel void times(__global const float* x, __global const float* y, __global float* z, const int n) {
                    for (int i = get_global_id(0); i < n; i += get_global_size(0)) z[i] = x[i] * y[i];
                }
                """,
            scratch: [count.resolved(batch: context.maximumBatch) * 4],
            steps: [
                .launch("square", [.input(0), .scratch(0), .extent(count)], groups: { _ in [2] }, local: [8]),
                .launch(
                    "times", [.input(0), .scratch(0), .output(0), .extent(count)], groups: { _ in [2] }, local: [8]),
                .host { context in
                    var array = try context.read(input: 0)
                    try array.withUnsafeMutableBytes { try context.outputs[0].read(into: $0) }
                    try context.write(HostArray(array.floats.map { $0 + 1 }, shape: array.shape), output: 0)
                },
            ])
    }
}

/// An operation that only the processor knows.
private struct Faceless: Graph.Operation {
    var name: String { "faceless" }
    var key: AnyHashable? { nil }
    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { inputs }
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [nil] }
    func relations(_ context: RelationContext) -> [Relation] { [.same] }
    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {}
}

@Suite(.serialized) struct RuntimeTests {
    private func copy(_ element: ElementType = .float32) -> Schedule {
        var s = Schedule()
        let x = s.input("x", [.batch, 3], element)
        let y = s.output([.batch, 3], element)
        s.add(
            ElementwiseGroup(
                iteration: [.batch, 3], inputs: [s.whole(x)], program: .identity(element), outputs: [s.whole(y)]))
        return s
    }

    private func operation(_ operation: any Graph.Operation) -> Schedule {
        var s = Schedule()
        let x = s.input("x", [.batch, 3])
        let y = s.output([.batch, 3])
        s.add(OperationGroup(operation: operation, inputs: [x], outputs: [y]), "models/mine")
        return s
    }

    private func message(_ body: () throws -> Void) -> String {
        do {
            try body()
            return ""
        } catch let error as OpenCLError {
            return error.description
        } catch let error as BindingError {
            return error.description
        } catch { return "neither an OpenCLError nor a BindingError: \(error)" }
    }

    @Test func badFeedsAreNamed() throws {
        let executable = try Devices.of(.cpu).load(copy(), maximumBatch: 4, states: [:])
        let good = HostArray([Float](repeating: 1, count: 6), shape: [2, 3])
        #expect(message { _ = try executable.run([:], batch: 2) }.contains("input 'x' was not fed"))
        #expect(
            message { _ = try executable.run(["x": .host(good)], batch: 3) }.contains(
                "wants float32[3, 3] and was fed float32[2, 3]"))
        #expect(
            message {
                _ = try executable.run(
                    ["x": .host(HostArray([Int32](repeating: 1, count: 6), shape: [2, 3]))], batch: 2)
            }
            .contains("wants float32[2, 3] and was fed int32[2, 3]"))
        #expect(
            message { _ = try executable.run(["x": .host(good), "y": .host(good)], batch: 2) }.contains(
                "'y' was fed and the program has no input of that name"))
        #expect(
            message { _ = try executable.run(["x": .host(good)], batch: 5) }.contains(
                "a batch of 5 was asked for and the program was loaded for 1 to 4"))
        #expect(message { _ = try executable.run(["x": .host(good)], batch: 0) }.contains("a batch of 0"))
        let short = try Devices.of(.cpu).makeBuffer(byteCount: 8)
        #expect(
            message { _ = try executable.run(["x": .device(short)], batch: 2) }.contains(
                "24 bytes and was fed a buffer of 8"))
    }

    @Test func doublesAndFacelessOperationsAreRefused() throws {
        let device = try Devices.of(.cpu)
        #expect(message { _ = try device.load(copy(.float64), maximumBatch: 1, states: [:]) }.contains("--device cpu"))
        let refusal = message { _ = try device.load(operation(Faceless()), maximumBatch: 1, states: [:]) }
        #expect(refusal.contains("models/mine") && refusal.contains("faceless") && refusal.contains("--device cpu"))
        #expect(message { _ = try OpenCLDevice.named("opencl:99") }.contains("expected opencl:0"))
        #expect(message { _ = try OpenCLDevice.named("gpu") }.contains("no device \"gpu\""))
        #expect(OpenCLError.noDevice.description.contains("pocl-opencl-icd"))
        var s = Schedule()
        _ = s.state("w", [3])
        #expect(message { _ = try device.load(s, maximumBatch: 1, states: [:]) }.contains("state 'w'"))
        #expect(
            message { _ = try device.load(s, maximumBatch: 1, states: ["w": device.makeBuffer(byteCount: 4)]) }
                .contains("wants a buffer of 12 bytes"))
    }

    @Test(arguments: KernelFamily.allCases)
    func operationsOfTheirOwn(family: KernelFamily) throws {
        let executable = try Devices.of(family).load(operation(Cube()), maximumBatch: 4, states: [:])
        let x: [Float] = [1, 2, 3, -1, 0.5, 0]
        let y = try executable.run(["x": .host(HostArray(x, shape: [2, 3]))], batch: 2)[0]
        #expect(y.floats == x.map { $0 * $0 * $0 + 1 })
    }

    /// Bytes of every type go through unchanged; a fed device buffer stands in for the input, and a host array after it.
    @Test(arguments: KernelFamily.allCases)
    func typesAndFeeds(family: KernelFamily) throws {
        let device = try Devices.of(family)
        for type in [ElementType.float32, .int32, .uint8, .bool] {
            let schedule = copy(type)
            let executable = try device.load(schedule, maximumBatch: 20, states: [:])
            let (first, second) = (
                randomFeeds(schedule, batch: 20, seed: 1)["x"]!, randomFeeds(schedule, batch: 20, seed: 2)["x"]!
            )
            let buffer = try device.makeBuffer(byteCount: first.bytes.count)
            try first.withUnsafeBytes { try buffer.write($0) }
            #expect(try executable.run(["x": .host(second)], batch: 20)[0] == second)
            #expect(try executable.run(["x": .device(buffer)], batch: 20)[0] == first)
            #expect(try executable.run(["x": .host(second)], batch: 20)[0] == second)
            #expect(executable.plannedBytes >= 2 * first.bytes.count)
        }
    }

    /// One group at a time, with values written and read between.
    @Test(arguments: KernelFamily.allCases)
    func groupByGroup(family: KernelFamily) throws {
        let executable = try Devices.of(family).load(copy(), maximumBatch: 4, states: [:])
        let x = HostArray([Float](arrayLiteral: 1, 2, 3), shape: [1, 3])
        try executable.write(x, to: 0, batch: 1)
        try executable.run(group: 0, batch: 1)
        #expect(try executable.read(1, batch: 1) == x)
    }

    @Test func cacheKeepsWholeEntriesOnly() throws {
        let folder = NSTemporaryDirectory() + "martlet-cache-\(UInt64.random(in: 0 ... .max))/deep"
        defer { try? FileManager.default.removeItem(atPath: (folder as NSString).deletingLastPathComponent) }
        let cache = ProgramCache(folder: folder)
        #expect(cache.read("key") == nil)
        cache.write("key", [1, 2, 3])
        #expect(cache.read("key") == [1, 2, 3])
        #expect(cache.read("other") == nil)
        let path = try #require(cache.path(for: "key"))
        var bytes = try #require(FileManager.default.contents(atPath: path))
        bytes[bytes.count - 10] ^= 1
        _ = FileManager.default.createFile(atPath: path, contents: bytes)
        #expect(cache.read("key") == nil)
        _ = FileManager.default.createFile(atPath: path, contents: bytes.prefix(5))
        #expect(cache.read("key") == nil)
        // A folder that cannot be made is no error.
        ProgramCache(folder: "/proc/nowhere").write("key", [1])
        #expect(ProgramCache(folder: "/proc/nowhere").read("key") == nil)
        #expect(ProgramCache(folder: nil).read("key") == nil)
        // Folders that others may write to are not read, nor are links, nor pipes, which nobody may ever write to.
        let shared = ProgramCache(folder: folder)
        shared.write("key", [1, 2, 3])
        #expect(shared.read("key") == [1, 2, 3])
        var status = stat()
        #expect(stat(folder, &status) == 0 && status.st_mode & 0o777 == 0o700)
        chmod(folder, 0o777)
        #expect(shared.read("key") == nil)
        chmod(folder, 0o700)
        let moved = path + ".moved"
        rename(path, moved)
        symlink(moved, path)
        #expect(shared.read("key") == nil)
        unlink(path)
        mkfifo(path, 0o600)
        #expect(shared.read("key") == nil)
    }

    /// A stored program that is whole but that the driver refuses is built again.
    @Test func uselessCachedProgramIsBuiltAgain() throws {
        let folder = NSTemporaryDirectory() + "martlet-cache-\(UInt64.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let device = try Devices.of(.cpu)
        let cache = ProgramCache(folder: folder)
        let source = "__kernel void nothing(__global int* x) { x[0] = 1; }"
        _ = try CompiledProgram(device, source: source, cache: cache)
        let file = try #require(try FileManager.default.contentsOfDirectory(atPath: folder).first)
        let info = device.description
        let key = [info.platform, info.name, info.version, info.driver, CompiledProgram.options, source].joined(
            separator: "\n")
        #expect(cache.path(for: key) == "\(folder)/\(file)")
        _ = try CompiledProgram(device, source: source, cache: cache).makeKernel("nothing")
        cache.write(key, Array("not a program".utf8))
        _ = try CompiledProgram(device, source: source, cache: cache).makeKernel("nothing")
    }

    /// A process builds a program once for a device.
    @Test func programsAreShared() throws {
        let device = try OpenCLDevice.named(kernels: .cpu)
        let source = "__kernel void shared(__global int* x) { x[0] = 2; }"
        _ = try CompiledProgram(device, source: source)
        #expect(throws: Never.self) {
            try device.programs.program(source) { throw OpenCLError.unsupported("it was built already") }
        }
    }

    @Test func failedBuildShowsLog() throws {
        let text = message {
            _ = try CompiledProgram(
                Devices.of(.cpu), source: "__kernel void k() { missing(); }\n", cache: ProgramCache(folder: nil))
        }
        #expect(text.contains("missing") && text.contains("its source of 1 lines is printed with MARTLET_DEBUG=3"))
        // What the compiler says of very many mistakes is cut, in lines that a screen holds.
        let calls = (0..<2000).map { "missing\($0)(" + String(repeating: "1, ", count: 200) + "1);" }
        let long = message {
            _ = try CompiledProgram(
                Devices.of(.cpu), source: "__kernel void k() {\n\(calls.joined(separator: "\n"))\n}\n",
                cache: ProgramCache(folder: nil))
        }
        let lines = long.split(separator: "\n")
        #expect(lines.count > 2 && lines.count <= 22 && lines.dropFirst().allSatisfy { $0.count <= 210 }, "\(long)")
    }

    /// A person's own text may be what does not compile, or has no kernel of the name.
    @Test func textOfCustomOperationsIsNamed() throws {
        func load(_ text: String) -> String {
            let mine = CustomOperation(
                "doubled", outputType: { $0[0] }, gradient: { _, _, g in [g * 2] }, relations: { _ in [.same] },
                evaluate: { inputs, output in output = inputs[0].map { $0 * 2 } },
                cpu: { inputs, output in for i in output.indices { output[i] = inputs[0][i] * 2 } }, openCL: text)
            return message {
                _ = try Devices.of(.cpu).load(operation(mine), maximumBatch: 1, states: [:])
                    .run(["x": .host(HostArray([1, 2, 3] as [Float], shape: [1, 3]))], batch: 1)
            }
        }
        let wrong = load("__kernel void doubled(__global const float* x, __global float* y, int n) { missing(); }")
        #expect(wrong.contains("doubled") && wrong.contains("own text") && wrong.contains("missing"), "\(wrong)")
        let unnamed = load("__kernel void twice(__global const float* x, __global float* y, int n) {}")
        #expect(unnamed.contains("a kernel of the operation's name"), "\(unnamed)")
    }
}
