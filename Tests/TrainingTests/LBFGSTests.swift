import CPU
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import Testing

@testable import Models
@testable import Training

/// The mean over rows of ½ (a p - b)², a being all numbers of a row but the last, b: its minimum solves the normal equations.
private struct LeastSquares: LikelihoodModel {
    let examples: ExampleShape
    let domain = VariableDomain.real
    let metric = Metric.squaredError
    let weight: Parameter

    init(_ unknowns: Int) {
        examples = ExampleShape([unknowns + 1])
        weight = Parameter([unknowns], .constant(0))
    }

    func evaluation(_ x: Tensor, _ context: Context) -> Tensor {
        let n = weight.shape[0]
        let product = (x.sliced(axis: 1, from: 0, count: n) * weight.tensor).sum(axes: [1])
        let target = x.sliced(axis: 1, from: n, count: 1).reshaped([x.shape[0]])
        return (product - target).squared() * 0.5
    }
}

/// Rosenbrock's valley, (1 - p₀)² + 100 (p₁ - p₀²)², for every row: the minimum is at (1, 1).
private struct Rosenbrock: LikelihoodModel {
    let examples = ExampleShape([1])
    let domain = VariableDomain.real
    let metric = Metric.squaredError
    let first = Parameter([1], .constant(-1.2))
    let second = Parameter([1], .constant(1))

    func evaluation(_ x: Tensor, _ context: Context) -> Tensor {
        let (a, b) = (first.tensor, second.tensor)
        return ((1 - a).squared() + (b - a * a).squared() * 100 + x * 0).reshaped([x.shape[0]])
    }
}

private func rows(_ count: Int, _ width: Int) -> HostArray {
    let random = HostRandom(seed: 5, stream: "least squares")
    return HostArray(
        (0..<count * width).map { Float(random.uniform(example: $0 / width, variable: $0 % width) * 2 - 1) },
        shape: [count, width])
}

@Suite(.serialized) struct LBFGSTests {
    private func train(
        _ model: any LikelihoodModel, _ examples: Examples, valid: Examples? = nil, on device: any Device,
        _ change: (inout TrainingSettings) -> Void
    ) throws -> (run: Run, trainer: Trainer) {
        var settings = TrainingSettings()
        settings.optimizer = .lbfgs
        settings.patience = 0
        change(&settings)
        let run = try Run(model, settings: settings, device: device)
        try run.initialize()
        let trainer = try Trainer(run, train: examples, valid: valid ?? examples, folder: nil)
        try trainer.start()
        _ = try trainer.train()
        return (run, trainer)
    }

    /// The two loops give the product with the matrix that the update of BFGS makes (equations 7.16 to 7.19 and 7.20), a pair of zeros
    /// being none.
    @Test func theTwoLoopsAreTheProductWithTheMatrix() throws {
        let (n, m) = (5, 4)
        let random = HostRandom(seed: 3, stream: "pairs")
        func vector(_ k: Int) -> [Double] { (0..<n).map { random.uniform(example: k, variable: $0) * 2 - 1 } }
        func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
        let g = vector(0)
        // The newest first; y near to s, so that the curvature is above zero, and the last pair missing.
        var pairs = (1..<m).map { k in (s: vector(k), y: zip(vector(k), vector(k + 10)).map { $0 + 0.3 * $1 }) }
        #expect(pairs.allSatisfy { dot($0.s, $0.y) > 0 })
        let gamma = dot(pairs[0].s, pairs[0].y) / dot(pairs[0].y, pairs[0].y)
        var h = (0..<n).map { i in (0..<n).map { i == $0 ? gamma : 0 } }
        for (s, y) in pairs.reversed() {
            let rho = 1 / dot(s, y)
            let v = (0..<n).map { i in (0..<n).map { (i == $0 ? 1 : 0) - rho * y[i] * s[$0] } }
            let hv = h.map { row in (0..<n).map { j in dot(row, v.map { $0[j] }) } }
            h = (0..<n).map { i in
                (0..<n).map { j in dot(v.map { $0[i] }, hv.map { $0[j] }) + rho * s[i] * s[j] }
            }
        }
        let expected = h.map { -dot($0, g) }
        pairs.append((s: g.map { _ in 0 }, y: g.map { _ in 0 }))
        func tensor(_ values: [Double]) -> Tensor { .constant(HostArray(values, shape: [n])) }
        let direction = LBFGS.direction(tensor(g), pairs.map { (tensor($0.s), tensor($0.y)) })
        let found = try Interpreter().run(direction).elements
        for (a, b) in zip(found, expected) { #expect(abs(a - b) < 1e-12) }
    }

    /// Least squares with and without decay, on every device, in one batch and in several of unequal size.
    @Test func theMinimumOfAQuadraticIsFound() throws {
        let (n, count) = (6, 70)
        let data = rows(count, n + 1)
        let values = data.doubles
        for (device, batch, decay) in try zip(testDevices(), [(70, 0.0), (20, 0.1), (20, 0.1)]).map({ ($0, $1.0, $1.1) }
        ) {
            let (run, trainer) = try train(LeastSquares(n), Examples(data), on: device) {
                ($0.batch, $0.weightDecay, $0.epochs) = (batch, decay, 60)
            }
            var a = [[Double]](repeating: [Double](repeating: 0, count: n), count: n)
            var b = [Double](repeating: 0, count: n)
            for row in stride(from: 0, to: values.count, by: n + 1) {
                for i in 0..<n {
                    for j in 0..<n { a[i][j] += values[row + i] * values[row + j] / Double(count) }
                    b[i] += values[row + i] * values[row + n] / Double(count)
                }
            }
            for i in 0..<n { a[i][i] += decay }
            let expected = try #require(solve(a, b))
            let found = try #require(try run.states.get(run.parameters[0].parameter)).doubles
            for (p, q) in zip(found, expected) { #expect(abs(p - q) < 2e-5, "\(device.name): \(found), \(expected)") }
            // It says itself that it is done.
            #expect(trainer.epochsDone < 60, "\(device.name)")
        }
    }

    @Test func rosenbrocksValleyIsWalked() throws {
        let (run, trainer) = try train(Rosenbrock(), Examples(rows(8, 1)), on: CPUDevice(threads: 1)) {
            $0.epochs = 100
        }
        for (_, parameter) in run.parameters {
            #expect(abs(try #require(try run.states.get(parameter)).doubles[0] - 1) < 1e-3)
        }
        // scipy takes 35 iterations with ten pairs.
        #expect(trainer.epochsDone <= 50)
    }

    /// A fully visible belief net with an L2 penalty is convex: its optimum is that of scipy 1.17 in double precision
    /// (`scipy.optimize.minimize(method="L-BFGS-B")`, gradient below 1e-6), in nats: the objective, of which the penalty is
    /// 0.0005 |p|², and the mean over the training set alone.
    @Test(arguments: [("mushrooms", 13.434681706, 11.386522745), ("dna", 74.004841265, 71.661304907)])
    func beliefNetsReachTheirOptimum(name: String, objective: Double, likelihood: Double) throws {
        guard let folder = sharedData else {
            print("skipped: the binary UCI sets are not beside the repository, in ../shared/data")
            return
        }
        let data = try Dataset(npz: "\(folder)/nade_uci/\(name).npz", name: name, source: "")
        let model = try MADE([data.variableCount]) { $0.hidden = [] }
        let (run, trainer) = try train(model, data[.train], valid: data[.valid][0..<10], on: CPUDevice(threads: 2)) {
            ($0.batch, $0.weightDecay, $0.epochs) = (500, 1e-3, 1000)
        }
        // What is kept is the optimum, though ten examples would rather have stopped before it.
        try trainer.useBest()
        let mean = -Estimate(try run.logProbability(data.train)).mean
        var square = 0.0
        for (_, parameter) in run.parameters {
            let values = try #require(try run.states.get(parameter)).floats
            square += values.reduce(0) { $0 + Double($1) * Double($1) }
            // Masked weights never moved.
            var live = values
            parameter.clearDead(&live)
            #expect(live == values)
        }
        #expect(abs(mean + 0.0005 * square - objective) < 1e-4, "\(trainer.epochsDone) steps")
        #expect(abs(mean - likelihood) < 2e-3)
        #expect(trainer.epochsDone < 1000)
    }

    /// What is no function of the weights alone, and what a step of its own length ignores, is refused by name.
    @Test func whatIsNoFunctionIsRefused() throws {
        let device = try CPUDevice(threads: 1)
        let examples = Examples(HostArray([0, 1, 1, 0] as [UInt8], shape: [2, 2]))
        func message(
            _ model: any LikelihoodModel, _ change: (inout TrainingSettings) -> Void = { _ in }
        ) throws -> String {
            let error = #expect(throws: UsageError.self) {
                _ = try self.train(model, examples, on: device, change)
            }
            return error?.description ?? ""
        }
        let made = try MADE([2]) { $0.hidden = [4] }
        let idle = try message(made) {
            ($0.clipNorm, $0.averaging, $0.accumulate, $0.shear, $0.schedule) = (1, 0.5, 2, 0.5, .cosine)
        }
        #expect(idle.hasSuffix("do nothing; set accumulate=1 clipNorm=0 averaging=0 shear=0 schedule=constant"))
        #expect(try message(MADE([2]) { ($0.hidden, $0.dropout) = ([4], 0.5) }).contains("draws random numbers"))
        #expect(try message(MADE([2]) { ($0.hidden, $0.masks) = ([4], "3") }).contains("other masks"))
        let normed = try Flow.VectorSettings { ($0.hidden, $0.layers, $0.normalization) = ([4], 1, "batchNorm") }
            .makeModel([2], seed: 1)
        #expect(try message(normed).contains("running statistics"))
        for (name, change) in [
            ("history", { $0.history = 0 }), ("history", { $0.history = 2.5 }), ("beta1", { $0.beta1 = 0.5 }),
            ("gradientTolerance", { $0.gradientTolerance = -1 }),
        ] as [(String, (inout TrainingSettings) -> Void)] {
            #expect(try message(made, change).hasPrefix(name + ": "))
        }
    }
}

/// The folder of real data beside the repository, where there is one.
let sharedData: String? = {
    let root = "/" + "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")
    let folder = "\(root)/../shared/data"
    return Files.isFolder(folder) ? folder : nil
}()
