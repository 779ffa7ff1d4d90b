@preconcurrency import CoreML
import Foundation

/// Compiled models in a folder that lasts, under a key made of the package's content.
///
/// Core ML specialises a compiled model for the device when it is first loaded and finds that work again by the model's
/// path, so that compiling into a temporary folder at every start would repeat it.
struct CompiledModelCache {
    let folder: URL

    /// - Parameter folder: nil is `EdgeSAM/CompiledModels` in Application Support.
    init(folder: URL?) throws {
        if let folder {
            self.folder = folder
        } else {
            let support = try FileManager.default.url(
                for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
            self.folder = support.appending(path: "EdgeSAM/CompiledModels")
        }
    }

    /// The compiled form of a model: the model itself when it is compiled, else from the cache, compiled if need be.
    func compiled(_ model: URL) async throws -> URL {
        guard FileManager.default.fileExists(atPath: model.path) else {
            throw EdgeSAMError.missingFile(path: model.path)
        }
        switch model.pathExtension {
        case "mlmodelc": return model
        case "mlpackage": return try await compiledPackage(model)
        default: throw EdgeSAMError.notAModel(path: model.path)
        }
    }

    /// Forget the compiled form of a package, so that the next call compiles it again.
    func remove(_ model: URL) throws {
        guard model.pathExtension == "mlpackage" else { return }
        try FileManager.default.removeItem(at: try place(of: model))
    }

    private func compiledPackage(_ package: URL) async throws -> URL {
        let file = package.lastPathComponent
        do {
            let final = try place(of: package)
            if FileManager.default.fileExists(atPath: final.path) { return final }
            let fresh = try await MLModel.compileModel(at: package)
            defer { try? FileManager.default.removeItem(at: fresh) }
            try Task.checkCancellation()
            try install(fresh, at: final)
            return final
        } catch let error as CancellationError {
            throw error
        } catch let error as EdgeSAMError {
            throw error
        } catch {
            throw EdgeSAMError.cannotCompile(file: file, reason: error.localizedDescription)
        }
    }

    /// Where the compiled form of a package lies or will lie.
    private func place(of package: URL) throws -> URL {
        let key = try ContentKey(folder: package).text
        let name = package.deletingPathExtension().lastPathComponent
        return folder.appending(path: key).appending(path: "\(name).mlmodelc")
    }

    /// Put a compiled model at its final path, complete or not at all.
    private func install(_ fresh: URL, at final: URL) throws {
        let files = FileManager.default
        let home = final.deletingLastPathComponent()
        try files.createDirectory(at: home, withIntermediateDirectories: true)
        let staged = home.appending(path: ".\(UUID().uuidString).mlmodelc")
        defer { try? files.removeItem(at: staged) }
        // The system's temporary folder may lie on another volume: only the second move is a plain rename.
        try files.moveItem(at: fresh, to: staged)
        do {
            try files.moveItem(at: staged, to: final)
        } catch  where files.fileExists(atPath: final.path) {
            // Another predictor was faster; its model is the same.
        }
        #if canImport(Darwin)
            var folder = self.folder
            var values = URLResourceValues()
            values.isExcludedFromBackup = true  // it can be made again
            try? folder.setResourceValues(values)
        #endif
    }
}
