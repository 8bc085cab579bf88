import CPU
import Compiler
import Graph
import Testing
@testable import Bijectors
@Suite struct DebugTests {
    @Test func squeeze() throws {
        let x = Tensor.input("x", [.batch, 2, 4, 2])
        let f = Squeeze().forward(x, Pass())
        let g = Squeeze().inverse(f.value, Pass())
        let v = Values(shape: [2, 2, 4, 2], elements: (0..<32).map { Double($0) })
        print("INTERP", try Interpreter(batch: 2, ["x": v]).run([f.value, g.value]).map(\.elements))
        let s = try compile([f.value, g.value])
        print(s.description)
        let r = try CPUDevice(threads: 1).load(s, maximumBatch: 2, states: [:]).run(["x": .host(HostArray(v, as: .float32))], batch: 2)
        print("CPU", r.map(\.floats))
    }
}
