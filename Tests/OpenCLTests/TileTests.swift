import CPU
import Compiler
import Graph
import Testing

@testable import OpenCL

/// The GPU family chooses its tiles by how many units a device has: whatever it chooses, the numbers are the same to the bit.
@Suite(.serialized) struct TileTests {
    @Test func aSmallerTileUsesMoreUnits() {
        func size(_ m: Int, _ n: Int) -> Int {
            GPUTile.best(rows: m, columns: n, count: 1, units: 132).size
        }
        #expect(size(2048, 2048) == 128)
        #expect(size(512, 512) == 32)
        #expect(size(100, 500) == 16)
    }

    @Test(arguments: ProductGroup.Role.all) func products(role: ProductGroup.Role) throws {
        var s = Schedule()
        var degrees: [String: HostArray] = [:]
        for kind in MaskKind.allCases {
            degrees.merge(addProduct(to: &s, "\(kind)", role: role, mask: kind, inputs: 150, outputs: 133)) { $1 }
        }
        degrees.merge(
            addProduct(
                to: &s, "zeros", role: .weightGradient, mask: .matrix, inputs: 150, outputs: 133, staysZero: true)
        ) { $1 }
        let feeds = randomFeeds(s, batch: 37).merging(degrees) { $1 }
        let reference = Reference(s, feeds: feeds, batch: 37)
        var first: [[Double]]?
        // Tiles of 128, 64, 32 and 16.
        for units in [1, 6, 24, 10_000] {
            let executable = try Devices.gpu(units: units).load(s, maximumBatch: 37, states: [:])
            let found = try executable.run(feeds.mapValues { .host($0) }, batch: 37).map(\.doubles)
            for (index, (value, result)) in zip(s.outputs, found).enumerated() {
                expectClose(result, reference.arrays[value]!, tolerance: 1e-5, "product \(index), \(units) units")
            }
            let isEqual = found == first ?? found
            #expect(isEqual, "\(units) units")
            first = found
        }
    }

    /// Plain, masked by channels, and a gate that reads both halves of its channels.
    @Test func convolutions() throws {
        func convolutions(_ name: String, _ rows: Int, mask: ConvolutionMask?, isGate: Bool) throws -> [Tensor] {
            let x = Tensor.input("\(name) x", [.batch, 6, 9, 11])
            let w = Tensor.input("\(name) w", [Extent(rows), 6, 3, 3])
            var y = x.convolution(w, padding: [(1, 1), (1, 1)], mask: mask)
            if isGate {
                y =
                    y.sliced(axis: 1, from: 0, count: rows / 2).tanh()
                    * y.sliced(axis: 1, from: rows / 2, count: rows / 2).sigmoid()
            }
            let dy = Tensor.input("\(name) dy", y.shape)
            return [y] + (try gradients(of: (y * dy).sum(), with: [x, w]))
        }
        let masked = ConvolutionMask.causal(.b, kernel: [3, 3], outputs: 30, inputs: 6, channelGroups: 3)
        let schedule = try compile(
            convolutions("plain", 70, mask: nil, isGate: false)
                + convolutions("masked", 30, mask: masked, isGate: false)
                + convolutions("gate", 40, mask: nil, isGate: true))
        let feeds = randomFeeds(schedule, batch: 5)
        func run(_ device: any Device) throws -> [[Double]] {
            try device.load(schedule, maximumBatch: 5, states: [:]).run(feeds.mapValues { .host($0) }, batch: 5)
                .map(\.doubles)
        }
        let expected = try run(CPUDevice(threads: 2))
        var first: [[Double]]?
        for units in [1, 6, 24, 10_000] {
            let found = try run(Devices.gpu(units: units))
            for (a, b) in zip(found, expected) { expectClose(a, b, tolerance: 1e-5, "\(units) units") }
            let isEqual = found == first ?? found
            #expect(isEqual, "\(units) units")
            first = found
        }
    }
}

/// Small matrices on a GPU, in numbers of two floats, against double precision.
@Suite(.serialized) struct MatrixKernelTests {
    @Test(arguments: [1, 2, 5, 48, 97]) func matrices(n: Int) throws {
        let (size, count) = (Extent(n), 3)
        let a = Tensor.input("a", [.batch, size, size])
        let b = Tensor.input("b", [.batch, size, 2])
        let c = Tensor.input("c", [.batch, size, size])
        let outputs = [
            c.inverse(), c.logAbsoluteDeterminant(), c.lu().packed, c.lu().order.cast(to: .float32),
            a.triangularSolve(b, isLower: true), a.triangularSolve(b, isLower: true, isTransposed: true),
            a.triangularSolve(b, isLower: false),
        ]
        let schedule = try compile(outputs)
        var feeds = randomFeeds(schedule, batch: count)
        // Triangles alone can be solved with where the diagonal is not small; of the other matrices pivots lie anywhere.
        let scale = 1 / Float(n).squareRoot()
        var elements = try #require(feeds["a"]).floats.map { (x: Float) -> Float in x * scale }
        for i in 0..<n {
            for matrix in 0..<count { elements[(matrix * n + i) * n + i] += 2 }
        }
        feeds["a"] = HostArray(elements, shape: [count, n, n])
        let executable = try Devices.of(.gpu).load(schedule, maximumBatch: count, states: [:])
        let found = try executable.run(feeds.mapValues { .host($0) }, batch: count).map(\.doubles)
        let expected = try Interpreter(batch: count, feeds.mapValues(\.values)).run(outputs)
        for (index, (result, value)) in zip(found, expected).enumerated() {
            expectClose(result, value.elements, tolerance: 2e-7, "\(n), output \(index)")
        }
    }

    /// Hilbert's matrix of six rows has a condition of 1.5e7: an inverse in floats alone would have no correct digit.
    @Test func illConditioned() throws {
        let a = Tensor.input("a", [6, 6])
        let outputs = [a.inverse(), a.logAbsoluteDeterminant(), (a * 0).logAbsoluteDeterminant()]
        let elements = (0..<36).map { (e: Int) -> Float in 1 / Float(e / 6 + e % 6 + 1) }
        let hilbert = HostArray(elements, shape: [6, 6])
        let executable = try Devices.of(.gpu).load(compile(outputs), maximumBatch: 1, states: [:])
        let found = try executable.run(["a": .host(hilbert)], batch: 1).map(\.doubles)
        let expected = try Interpreter(batch: 1, ["a": hilbert.values]).run(outputs)
        for (result, value) in zip(found, expected) { expectClose(result, value.elements, tolerance: 1e-6) }
        #expect(found[2] == [-.infinity])
    }
}
