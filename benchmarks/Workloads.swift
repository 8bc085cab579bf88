import Datasets
import Lab
import Likelihood
import Models
import Training

extension Workload {
    /// What the project is measured on beside its peers: `torch_workloads.py` builds, feeds and times the same under the same names.
    public static let peers: [Workload] =
        [made("made", [500, 500], batch: 100), made("made-large", [4096, 4096], batch: 256), nade] + flows
        + [pixelCNN, gatedPixelCNN, waveNet, imageTransformer] + recurrent + attention + [
            Workload("matmul-2048", product: 2048, 2048, 2048),
            Workload("matmul-100x784x500", product: 100, 784, 500),
            Workload("matmul-512x1024x1024", product: 512, 1024, 1024),
        ]

    private static let random = HostRandom(seed: 0, stream: "bench")

    @Sendable static func binary(_ index: Int) -> Float { random.uniform(example: index) < 0.13 ? 1 : 0 }
    @Sendable static func normal(_ index: Int) -> Float { Float(random.normal(example: index)) }

    /// 784-hidden-784, Bernoulli, natural order.
    private static func made(_ name: String, _ hidden: [Int], batch: Int) -> Workload {
        Workload(
            name, RunConfiguration(MADE.Settings { $0.hidden = hidden }) { $0.batch = batch }, [784], sampleBatch: 100,
            binary)
    }

    /// 500 hidden units of each of 784 variables.
    private static let nade = Workload(
        "nade", RunConfiguration(NADE.Settings()) { $0.batch = 100 }, [784], sampleBatch: 100, binary)

    private static let pixelCNN = Workload(
        "pixelcnn", RunConfiguration(PixelCNN.Settings()) { $0.batch = 32 }, [1, 28, 28], sampleBatch: 16, binary)
    private static let gatedPixelCNN = Workload(
        "gated-pixelcnn", RunConfiguration(GatedPixelCNN.Settings()) { $0.batch = 16 }, [1, 28, 28], sampleBatch: 16,
        binary)
    private static let waveNet = Workload(
        "wavenet", RunConfiguration(WaveNet.Settings()) { $0.batch = 1 }, [8000], sampleBatch: 1
    ) { Float(random.bits(example: $0) % 256) }
    private static let imageTransformer = Workload(
        "image-transformer", RunConfiguration(ImageTransformer.Settings()) { $0.batch = 8 }, [1, 28, 28],
        sampleBatch: 8, binary)

    /// Training on resident real numbers, and the exact inverse of a batch of latents.
    private static let flows: [Workload] = [
        // Five affine autoregressive layers on 63 variables, the order reversed in between, log-scales unbounded.
        Workload(
            "maf",
            RunConfiguration(
                Flow.VectorSettings {
                    $0.layers = 5
                    $0.hidden = [512, 512]
                    $0.limit = 0
                }
            ) { $0.batch = 512 }, [63], sampleBatch: 1000, normal),
        Workload(
            "maf-image",
            RunConfiguration(
                Flow.VectorSettings {
                    $0.layers = 5
                    $0.hidden = [1024]
                    $0.limit = 0
                }
            ) { $0.batch = 100 }, [784], sampleBatch: 100, normal),
        // Ten affine couplings on 63 variables, log-scales within a tanh.
        Workload(
            "realnvp",
            RunConfiguration(
                Flow.VectorSettings {
                    $0.flow = "realnvp"
                    $0.layers = 10
                    $0.hidden = [512, 512]
                    $0.limit = 1
                }
            ) { $0.batch = 512 }, [63], sampleBatch: 1000, normal),
        // A flow in continuous time on the plane: twenty steps of RK4 through three layers of 64 units, the trace exactly.
        Workload(
            "ffjord",
            RunConfiguration(
                Flow.ContinuousSettings {
                    $0.steps = 20
                    $0.tolerance = 0
                }
            ) { $0.batch = 512 }, [2], sampleBatch: 1000, normal),
        // Three scales of eight steps on 32 x 32 colour images.
        Workload(
            "glow",
            RunConfiguration(
                Flow.ImageSettings {
                    $0.scales = 3
                    $0.steps = 8
                    $0.hidden = 128
                    $0.levels = 0
                }
            ) { $0.batch = 16 }, [3, 32, 32], sampleBatch: 16
        ) { Float(random.uniform(example: $0)) },
    ]
}
