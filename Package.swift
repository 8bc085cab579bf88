// swift-tools-version: 6.1
import PackageDescription

// A room imports only from rooms before it: the order below is the order of the floors.
let package = Package(
    name: "Martlet",
    products: [
        // One import for a program of one's own, or the rooms one by one.
        .library(name: "Martlet", targets: ["Martlet"]),
        .library(
            name: "MartletRooms",
            targets: [
                "Graph", "Compiler", "CPU", "OpenCL", "Layers", "Distributions", "Bijectors", "Likelihood", "Models",
                "Datasets", "Training", "Lab",
            ]),
        .executable(name: "martlet", targets: ["martlet"]),
        // For the tests alone, which put them into the program.
        .library(name: "DiskFaults", type: .dynamic, targets: ["DiskFaults"]),
        .library(name: "MockOpenCL", type: .dynamic, targets: ["MockOpenCL"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")
    ],
    targets: [
        // 0: the outside world
        .target(name: "COpenCL", path: "Sources/COpenCL"),
        .systemLibrary(
            name: "CZip", path: "Sources/CZip", pkgConfig: "libzip", providers: [.apt(["libzip-dev", "zlib1g-dev"])]),
        .systemLibrary(name: "CLZMA", path: "Sources/CLZMA", pkgConfig: "liblzma", providers: [.apt(["liblzma-dev"])]),
        .systemLibrary(name: "CPNG", path: "Sources/CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
        .target(name: "Kernels", path: "Kernels"),
        .target(name: "CPUKernels", dependencies: ["Kernels"], path: "Sources/CPUKernels"),
        // 1: the graph
        .target(name: "Graph", dependencies: ["Kernels"], path: "Sources/Graph"),
        // 2: the compiler
        .target(name: "Compiler", dependencies: ["Graph"], path: "Sources/Compiler"),
        // 3: the backends
        .target(name: "CPU", dependencies: ["Compiler", "CPUKernels", "Kernels"], path: "Sources/Backends/CPU"),
        .target(name: "OpenCL", dependencies: ["Compiler", "COpenCL", "Kernels"], path: "Sources/Backends/OpenCL"),
        // 4: what models are made of, and what a model is
        .target(name: "Layers", dependencies: ["Graph", "Kernels"], path: "Sources/Layers"),
        .target(name: "Distributions", dependencies: ["Graph", "Layers"], path: "Sources/Distributions"),
        .target(
            name: "Bijectors", dependencies: ["Graph", "Compiler", "Layers", "Distributions"], path: "Sources/Bijectors"
        ),
        .target(name: "Likelihood", dependencies: ["Graph", "Layers", "Distributions"], path: "Sources/Likelihood"),
        // 5: models
        .target(
            name: "Models", dependencies: ["Compiler", "Layers", "Distributions", "Bijectors", "Likelihood"],
            path: "Sources/Models"),
        // 6: data, training and the command line
        .target(
            name: "Datasets",
            dependencies: ["Graph", "Kernels", "Distributions", "Likelihood", "CZip", "CLZMA", "CPNG"],
            path: "Sources/Datasets"),
        .target(
            name: "Training",
            dependencies: ["Compiler", "CPU", "OpenCL", "Layers", "Distributions", "Likelihood", "Datasets"],
            path: "Sources/Training"),
        .target(
            name: "Lab",
            dependencies: [
                "Graph", "Compiler", "Likelihood", "Datasets", "Training",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Sources/Lab"),
        .target(
            name: "Martlet",
            dependencies: [
                "Graph", "Compiler", "CPU", "OpenCL", "Layers", "Distributions", "Bijectors", "Likelihood", "Models",
                "Datasets", "Training", "Lab",
            ], path: "Sources/Martlet"),
        // 7: experiments, workloads and the program
        .target(
            name: "Experiments", dependencies: ["Compiler", "Likelihood", "Models", "Datasets", "Training", "Lab"],
            path: "experiments"),
        .target(
            name: "Benchmarks",
            dependencies: ["Graph", "Layers", "Distributions", "Likelihood", "Models", "Datasets", "Training", "Lab"],
            path: "benchmarks",
            exclude: ["compare.py", "torch_workloads.py", "WORKLOADS.md"]),
        .executableTarget(name: "martlet", dependencies: ["Experiments", "Benchmarks"], path: "Sources/Program"),
        // times of single kernels
        .executableTarget(
            name: "kernel-bench", dependencies: ["CPU", "OpenCL", "Bijectors"], path: "Sources/KernelBench"),
        // damaged files for every reader
        .executableTarget(
            name: "fuzz-readers", dependencies: ["Likelihood", "Models", "Datasets", "Training", "CZip", "CLZMA"],
            path: "Sources/Fuzz"),
        // tests mirror the floors
        .target(name: "SanitizerOptions", path: "Tests/SanitizerOptions"),
        .target(name: "DiskFaults", path: "Tests/DiskFaults"),
        .target(name: "MockOpenCL", path: "Tests/MockOpenCL"),
        .testTarget(name: "GraphTests", dependencies: ["Graph"]),
        .testTarget(name: "CompilerTests", dependencies: ["Compiler"]),
        .testTarget(
            name: "BijectorsTests", dependencies: ["Bijectors", "Models", "Datasets", "CPU", "OpenCL"],
            exclude: ["Goldens"]),
        .testTarget(
            name: "ModelsTests", dependencies: ["Models", "Compiler", "Datasets", "CPU", "OpenCL"], exclude: ["Goldens"]
        ),
        .testTarget(name: "BackendTests", dependencies: ["CPU", "OpenCL", "Datasets"], exclude: ["Goldens"]),
        .testTarget(
            name: "DatasetsTests", dependencies: ["Datasets", "Distributions", "Likelihood", "fuzz-readers", "CZip"],
            exclude: ["Cases"]),
        .testTarget(
            name: "TrainingTests", dependencies: ["Training", "Models", "CPU", "OpenCL"], exclude: ["Goldens"]),
        .testTarget(name: "CPUTests", dependencies: ["CPU", "CPUKernels", "Kernels"]),
        .testTarget(name: "OpenCLTests", dependencies: ["OpenCL", "CPU", "SanitizerOptions"]),
        .testTarget(name: "CommandLineTests", dependencies: ["martlet", "Lab", "Datasets", "Graph"]),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu2x
)
