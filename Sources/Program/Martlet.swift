import Benchmarks
import Experiments
import Lab

@main struct MartletProgram: Laboratory {
    static let name = "martlet"
    static let experiments = Experiment.papers
    static let workloads = Workload.peers
}
