@preconcurrency import CoreML
import EdgeSAMBenchCore
import Foundation

/// Compiled models in a folder that lasts, under the digest of the package.
///
/// Core ML finds the work of specialising a model again by the compiled model's path.
struct CompiledModels: Sendable {
    let folder: URL

    /// - Parameter folder: nil is `EdgeSAMBench/CompiledModels` in Application Support.
    init(folder: URL?) throws {
        self.folder =
            try folder
            ?? FileManager.default.url(
                for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true
            ).appending(path: "EdgeSAMBench/CompiledModels")
    }

    /// Where the compiled form of a model lies or will lie.
    func location(of model: ModelFile) -> URL {
        if model.url.pathExtension == "mlmodelc" { return model.url }
        let name = model.url.deletingPathExtension().lastPathComponent
        return folder.appending(path: model.sha256).appending(path: "\(name).mlmodelc")
    }

    /// Compiles a model unless that was done before; true where it was done now.
    func compile(_ model: ModelFile) async throws -> Bool {
        let (files, final) = (FileManager.default, location(of: model))
        if files.fileExists(atPath: final.path) { return false }
        let fresh = try await MLModel.compileModel(at: model.url)
        defer { try? files.removeItem(at: fresh) }
        let home = final.deletingLastPathComponent()
        try files.createDirectory(at: home, withIntermediateDirectories: true)
        // The system's temporary folder may lie on another volume: only the second move is a plain rename.
        let staged = home.appending(path: ".\(UUID().uuidString).mlmodelc")
        defer { try? files.removeItem(at: staged) }
        try files.moveItem(at: fresh, to: staged)
        try files.moveItem(at: staged, to: final)
        return true
    }
}
