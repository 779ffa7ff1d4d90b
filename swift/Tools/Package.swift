// swift-tools-version: 6.0
import PackageDescription

// What makes images of the documentation; neither apps nor tests need it.
let package = Package(
    name: "EdgeSAMTools",
    platforms: [.macOS(.v14)],
    dependencies: [.package(name: "EdgeSAM", path: "../..")],
    targets: [
        .executableTarget(
            name: "demo-states",
            dependencies: [
                .product(name: "EdgeSAM", package: "EdgeSAM"), .product(name: "EdgeSAMUI", package: "EdgeSAM"),
            ])
    ],
    swiftLanguageModes: [.v6]
)
