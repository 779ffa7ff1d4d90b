// swift-tools-version: 6.0
import PackageDescription

// Core ML and Core Video do not exist on Linux.  There, stand-ins with the same names and signatures take their place:
// predictions are answered by edgesam-export's executor in a Python process, so that everything above them is compiled
// and run on real packages.  On Apple systems the stand-ins are not part of the package.
#if os(Linux)
let frameworks: [Target.Dependency] = ["CoreML", "CoreVideo"]
let standIns: [Target] = [
    .target(name: "CoreVideo", path: "StandIns/CoreVideo"),
    .target(name: "CoreML", dependencies: ["CoreVideo"], path: "StandIns/CoreML"),
    .testTarget(name: "CoreMLStandInTests", dependencies: ["CoreML", "CoreVideo", "FixtureSupport"]),
]
#else
let frameworks: [Target.Dependency] = []
let standIns: [Target] = []
#endif

let package = Package(
    name: "EdgeSAM",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "EdgeSAM", targets: ["EdgeSAM", "EdgeSAMCore"]),
        .library(name: "EdgeSAMBench", targets: ["EdgeSAMBenchCore", "EdgeSAMBenchRuntime"]),
        .executable(name: "edgesam-bench-host", targets: ["edgesam-bench-host"]),
    ],
    targets: [
        .target(name: "EdgeSAMCore"),
        .target(name: "EdgeSAM", dependencies: ["EdgeSAMCore"] + frameworks),
        .target(name: "EdgeSAMBenchCore"),
        .target(
            name: "EdgeSAMBenchRuntime",
            dependencies: ["EdgeSAM", "EdgeSAMBenchCore", "EdgeSAMCore"] + frameworks),
        .executableTarget(name: "edgesam-bench-host", dependencies: ["EdgeSAMBenchCore", "EdgeSAMBenchRuntime"]),
        // Where the tests find the goldens that Python's tests read too, and packages exported by the project.
        .target(name: "FixtureSupport", path: "Tests/FixtureSupport"),
        // EdgeSAMBenchCore has the only SHA-256, which the shared goldens need.
        .testTarget(name: "EdgeSAMCoreTests", dependencies: ["EdgeSAMBenchCore", "EdgeSAMCore", "FixtureSupport"]),
        .testTarget(name: "EdgeSAMTests", dependencies: ["EdgeSAM", "EdgeSAMCore", "FixtureSupport"] + frameworks),
        .testTarget(name: "EdgeSAMBenchCoreTests", dependencies: ["EdgeSAMBenchCore", "FixtureSupport"]),
        .testTarget(
            name: "EdgeSAMBenchRuntimeTests",
            dependencies: ["EdgeSAMBenchCore", "EdgeSAMBenchRuntime", "EdgeSAMCore", "FixtureSupport"] + frameworks),
    ] + standIns,
    swiftLanguageModes: [.v6]
)
