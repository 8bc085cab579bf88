import CPUKernels

/// Steps that one kernel does in one pass over the elements. Each keeps the rounding that it would have had alone, so nothing changes
/// but the time: a kernel starts once for several functions, and what lies between them stays in registers of the processor.
extension ProgramSteps {
    mutating func fuse() {
        joinChains()
        joinMoments()
        joinConditions()
    }

    /// Joins steps with those that make an operand for them alone: two additions or multiplications, the sum of products, relu of a
    /// sum, and the division at the end of an optimizer's update. The latest steps choose first.
    private mutating func joinChains() {
        let chains = Chains(self)
        var isJoined = [Bool](repeating: false, count: steps.count)
        for index in steps.indices.reversed() where steps[index].to == .float32 && !isJoined[index] {
            guard let joined = chains.joined(steps[index]) else { continue }
            steps[index].function = joined.function
            steps[index].operands = joined.operands
            for register in joined.inner { isJoined[register - fixed] = true }
        }
        remove(isJoined)
    }

    /// Joins the steps of Adam: the moments and the weight that they move, in one pass over the elements. It runs behind every
    /// weight gradient, where four kernels, each with its pass over the first-level cache, would cost as much as memory does.
    private mutating func joinMoments() {
        let uses = uses(countingOutputs: false)
        var isJoined = [Bool](repeating: false, count: steps.count)
        for index in steps.indices where steps[index].function == MARTLET_DAMPED_STEP {
            guard let update = MomentsUpdate(steps[index], in: self, uses: uses) else { continue }
            steps[index].function = MARTLET_MOMENTS_STEP
            steps[index].operands = update.operands
            for register in [update.first, update.second] {
                steps[register - fixed].operands = []
                steps[register - fixed].writer = fixed + index
            }
            isJoined[update.square - fixed] = true
        }
        remove(isJoined)
    }

    /// Joins a rectified sum with the condition under which its gradient passes, which is wanted behind every product that a
    /// rectified layer is trained with.
    private mutating func joinConditions() {
        for index in steps.indices where steps[index].function == MARTLET_LESS && steps[index].from == .float32 {
            let sum = steps[index].operands[1]
            // The sum is written by the later of the two, so nothing may read it in between.
            guard zeros.contains(steps[index].operands[0]), let rectified = step(making: sum),
                rectified.function == MARTLET_RECTIFIED_SUM, rectified.writer == nil,
                !steps[sum - fixed..<index].contains(where: { $0.operands.contains(sum) })
            else { continue }
            steps[index].function = MARTLET_RECTIFIED_CONDITION
            steps[index].operands = rectified.operands + [sum]
            steps[sum - fixed].operands = []
            steps[sum - fixed].writer = fixed + index
        }
    }

    /// How often each register is read.
    fileprivate func uses(countingOutputs: Bool) -> [Int] {
        var uses = [Int](repeating: 0, count: fixed + steps.count)
        for register in steps.flatMap(\.operands) + (countingOutputs ? outputs : []) { uses[register] += 1 }
        return uses
    }

    /// Takes steps out whose registers nothing reads any more.
    private mutating func remove(_ isJoined: [Bool]) {
        var places = Array(0..<fixed)
        var next = fixed
        for joined in isJoined {
            places.append(next)
            next += joined ? 0 : 1
        }
        steps = steps.indices.filter { !isJoined[$0] }.map { index in
            var step = steps[index]
            step.operands = step.operands.map { places[$0] }
            step.writer = step.writer.map { places[$0] }
            return step
        }
        outputs = outputs.map { places[$0] }
    }
}

/// Finds the steps that make an operand for one reader alone.
private struct Chains {
    /// A step with the steps that it takes in, whose registers are `inner`.
    struct Joined {
        var function: martlet_function
        var operands: [Int]
        var inner: [Int]
    }

    let program: ProgramSteps
    let uses: [Int]

    init(_ program: ProgramSteps) {
        self.program = program
        uses = program.uses(countingOutputs: true)
    }

    func joined(_ step: ProgramSteps.Step) -> Joined? {
        switch step.function {
        case MARTLET_SUBTRACT: dampedStep(step)
        case MARTLET_RELU: rectifiedSum(step)
        case MARTLET_ADD: blend(step) ?? multiplyAdd(step) ?? twice(step, MARTLET_ADD_ADD)
        case MARTLET_MULTIPLY: twice(step, MARTLET_MULTIPLY_MULTIPLY)
        default: nil
        }
    }

    /// The operands of the step that makes a register, if that is this function and nothing else reads it.
    private func parts(_ register: Int, _ function: martlet_function) -> [Int]? {
        guard let step = program.step(making: register), uses[register] == 1, step.function == function else {
            return nil
        }
        return step.operands
    }

    /// p - a b / (sqrt(v) r + e)
    private func dampedStep(_ step: ProgramSteps.Step) -> Joined? {
        let quotient = step.operands[1]
        guard let ratio = parts(quotient, MARTLET_DIVIDE), let product = parts(ratio[0], MARTLET_MULTIPLY),
            let sum = parts(ratio[1], MARTLET_ADD), let scaled = parts(sum[0], MARTLET_MULTIPLY),
            let root = parts(scaled[0], MARTLET_SQRT)
        else { return nil }
        return Joined(
            function: MARTLET_DAMPED_STEP,
            operands: [step.operands[0], product[0], product[1], root[0], scaled[1], sum[1]],
            inner: [quotient, ratio[0], ratio[1], sum[0], scaled[0]])
    }

    /// relu(a + b)
    private func rectifiedSum(_ step: ProgramSteps.Step) -> Joined? {
        parts(step.operands[0], MARTLET_ADD).map {
            Joined(function: MARTLET_RECTIFIED_SUM, operands: $0, inner: [step.operands[0]])
        }
    }

    /// a s + b t
    private func blend(_ step: ProgramSteps.Step) -> Joined? {
        let (a, b) = (step.operands[0], step.operands[1])
        guard a != b, let left = parts(a, MARTLET_MULTIPLY), let right = parts(b, MARTLET_MULTIPLY) else { return nil }
        return Joined(function: MARTLET_BLEND, operands: left + right, inner: [a, b])
    }

    /// a b + c
    private func multiplyAdd(_ step: ProgramSteps.Step) -> Joined? {
        for (sum, other) in [(step.operands[0], step.operands[1]), (step.operands[1], step.operands[0])] {
            if let factors = parts(sum, MARTLET_MULTIPLY) {
                return Joined(function: MARTLET_MULTIPLY_ADD, operands: factors + [other], inner: [sum])
            }
        }
        return nil
    }

    /// (a + b) + c or (a b) c
    private func twice(_ step: ProgramSteps.Step, _ function: martlet_function) -> Joined? {
        let (a, b) = (step.operands[0], step.operands[1])
        if let inner = parts(a, step.function) { return Joined(function: function, operands: inner + [b], inner: [a]) }
        return parts(b, step.function).map { Joined(function: function, operands: $0 + [a], inner: [b]) }
    }
}

/// A damped step whose numerator and root are blends that nothing else computes with: the moments m = a s + b t and
/// v = c u + w (g g) of Adam.
private struct MomentsUpdate {
    /// The registers of m, v and g g.
    let first: Int
    let second: Int
    let square: Int
    /// Those of the joined step.
    let operands: [Int]

    init?(_ step: ProgramSteps.Step, in program: ProgramSteps, uses: [Int]) {
        func blend(_ register: Int) -> [Int]? {
            guard let step = program.step(making: register), uses[register] == 1, step.function == MARTLET_BLEND else {
                return nil
            }
            return step.operands
        }
        /// The square of one register, read here alone.
        func isSquare(_ register: Int) -> Bool {
            guard let step = program.step(making: register), uses[register] == 1, !program.outputs.contains(register)
            else { return false }
            return step.function == MARTLET_MULTIPLY && step.operands[0] == step.operands[1]
        }
        let (value, second) = (step.operands[0], step.operands[3])
        let isFirst = blend(step.operands[1]) != nil
        let (first, rate) = isFirst ? (step.operands[1], step.operands[2]) : (step.operands[2], step.operands[1])
        guard first != second, let moment = blend(first), var power = blend(second),
            let place = power.indices.last(where: { isSquare(power[$0]) })
        else { return nil }
        // The square comes last, behind its factor.
        if place < 2 { power = [power[2], power[3], power[0], power[1]] }
        if place % 2 == 0 { power.swapAt(2, 3) }
        let gradient = program.steps[power[3] - program.fixed].operands[0]
        (self.first, self.second, square) = (first, second, power[3])
        operands =
            moment + [
                power[0], power[1], power[2], gradient, value, rate, step.operands[4], step.operands[5], first, second,
            ]
    }
}
