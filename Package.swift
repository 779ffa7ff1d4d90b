// swift-tools-version: 6.0
import PackageDescription

// What apps add by this repository's URL.  The benchmark has a package of its own in swift/, over the same sources.
//
// Core ML and Core Video do not exist on Linux.  There, stand-ins with the same names and signatures take their place:
// predictions are answered by edgesam-export's executor in a Python process, so that everything above them is compiled
// and run on real packages.  On Apple systems the stand-ins are not part of the package.
#if os(Linux)
    let frameworks: [Target.Dependency] = ["CoreML", "CoreVideo"]
    let standIns: [Target] = [
        .target(name: "CoreVideo", path: "swift/StandIns/CoreVideo"),
        .target(name: "CoreML", dependencies: ["CoreVideo"], path: "swift/StandIns/CoreML"),
        .testTarget(
            name: "CoreMLStandInTests", dependencies: ["CoreML", "CoreVideo", "FixtureSupport"],
            path: "swift/Tests/CoreMLStandInTests"),
    ]
#else
    let frameworks: [Target.Dependency] = []
    let standIns: [Target] = []
#endif

let package = Package(
    name: "EdgeSAM",
    platforms: [.iOS(.v17), .macOS(.v14), .macCatalyst(.v17), .visionOS(.v1)],
    products: [
        .library(name: "EdgeSAM", targets: ["EdgeSAM", "EdgeSAMCore"]),
        .library(name: "EdgeSAMUI", targets: ["EdgeSAMUI"]),
    ],
    targets: [
        .target(name: "EdgeSAMCore", path: "swift/Sources/EdgeSAMCore"),
        .target(name: "EdgeSAM", dependencies: ["EdgeSAMCore"] + frameworks, path: "swift/Sources/EdgeSAM"),
        .target(name: "EdgeSAMUI", dependencies: ["EdgeSAM"], path: "swift/Sources/EdgeSAMUI"),
        // Only tests depend on the next two: the only SHA-256, which shared goldens need, and where the tests find
        // those goldens and packages exported by the project.
        .target(name: "EdgeSAMDigest", path: "swift/Sources/EdgeSAMDigest"),
        .target(name: "FixtureSupport", path: "swift/Tests/FixtureSupport"),
        .testTarget(
            name: "EdgeSAMCoreTests", dependencies: ["EdgeSAMCore", "EdgeSAMDigest", "FixtureSupport"],
            path: "swift/Tests/EdgeSAMCoreTests"),
        .testTarget(
            name: "EdgeSAMTests", dependencies: ["EdgeSAM", "EdgeSAMCore", "FixtureSupport"] + frameworks,
            path: "swift/Tests/EdgeSAMTests"),
        .testTarget(
            name: "EdgeSAMUITests", dependencies: ["EdgeSAM", "EdgeSAMUI", "FixtureSupport"] + frameworks,
            path: "swift/Tests/EdgeSAMUITests"),
    ] + standIns,
    swiftLanguageModes: [.v6]
)
