import Benchmarks
import Experiments
import Lab

@main struct MartletProgram: Laboratory {
    static let name = "martlet"
    static let experiments = Experiment.papers
    static let groups = [ExperimentGroup.zooGlyphs, .flowsDensities]
    static let workloads = Workload.peers
}
