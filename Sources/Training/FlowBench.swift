import Compiler
import Datasets
import Graph

/// The workloads of flows: training on resident real numbers, and the exact inverse of a batch of latents.
extension Bench {
    static let flows = ["maf", "maf-image", "realnvp", "glow"]

    static func flow(_ name: String) -> Workload {
        let random = HostRandom(seed: 0, stream: "bench")
        let normal = { (index: Int) in Float(random.normal(example: index)) }
        switch name {
        case "maf":
            // Five affine autoregressive layers on 63 variables, the order reversed in between, log-scales unbounded.
            let settings = FlowSettings {
                $0.layers = 5
                $0.hidden = [512, 512]
                $0.limit = 0
            }
            return Workload(
                RunConfiguration(settings) { $0.batch = 512 }, [63], sampleBatch: 1000, normal)
        case "maf-image":
            let settings = FlowSettings {
                $0.layers = 5
                $0.hidden = [1024]
                $0.limit = 0
            }
            return Workload(
                RunConfiguration(settings) { $0.batch = 100 }, [784], sampleBatch: 100, normal)
        case "realnvp":
            // Ten affine couplings on 63 variables, log-scales within a tanh.
            let settings = FlowSettings {
                $0.flow = "realnvp"
                $0.layers = 10
                $0.hidden = [512, 512]
                $0.limit = 1
            }
            return Workload(
                RunConfiguration(settings) { $0.batch = 512 }, [63], sampleBatch: 1000, normal)
        default:
            // Three levels of eight steps on 32 x 32 colour images.
            let settings = ImageFlowSettings {
                $0.scales = 3
                $0.steps = 8
                $0.hidden = 128
                $0.levels = 0
            }
            return Workload(
                RunConfiguration(settings) { $0.batch = 16 }, [3, 32, 32], sampleBatch: 16,
                { Float(random.uniform(example: $0)) })
        }
    }
}
