// swift-tools-version: 6.0
import PackageDescription

// The benchmark: a package of its own, so that apps which add the repository's Package.swift see none of it.  The
// predictor's targets are the same sources as there.
#if os(Linux)
    let frameworks: [Target.Dependency] = ["CoreML", "CoreVideo"]
    let standIns: [Target] = [
        .target(name: "CoreVideo", path: "StandIns/CoreVideo"),
        .target(name: "CoreML", dependencies: ["CoreVideo"], path: "StandIns/CoreML"),
    ]
#else
    let frameworks: [Target.Dependency] = []
    let standIns: [Target] = []
#endif

let package = Package(
    name: "EdgeSAMBench",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "EdgeSAM", targets: ["EdgeSAM", "EdgeSAMCore"]),
        .library(name: "EdgeSAMBench", targets: ["EdgeSAMBenchCore", "EdgeSAMBenchRuntime"]),
        .executable(name: "edgesam-bench-host", targets: ["edgesam-bench-host"]),
    ],
    targets: [
        .target(name: "EdgeSAMCore"),
        .target(name: "EdgeSAM", dependencies: ["EdgeSAMCore"] + frameworks),
        .target(name: "EdgeSAMDigest"),
        .target(name: "EdgeSAMBenchCore", dependencies: ["EdgeSAMDigest"]),
        .target(
            name: "EdgeSAMBenchRuntime",
            dependencies: ["EdgeSAM", "EdgeSAMBenchCore", "EdgeSAMCore"] + frameworks),
        .executableTarget(name: "edgesam-bench-host", dependencies: ["EdgeSAMBenchCore", "EdgeSAMBenchRuntime"]),
        .target(name: "FixtureSupport", path: "Tests/FixtureSupport"),
        .testTarget(
            name: "EdgeSAMBenchCoreTests", dependencies: ["EdgeSAMBenchCore", "EdgeSAMDigest", "FixtureSupport"]),
        .testTarget(
            name: "EdgeSAMBenchRuntimeTests",
            dependencies: ["EdgeSAMBenchCore", "EdgeSAMBenchRuntime", "EdgeSAMCore", "EdgeSAMDigest", "FixtureSupport"]
                + frameworks),
    ] + standIns,
    swiftLanguageModes: [.v6]
)
