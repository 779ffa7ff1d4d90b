@preconcurrency import CoreML
import Foundation

/// Compiled models in a folder that lasts, under a key made of the package's content.
///
/// Core ML specialises a compiled model for the device when it is first loaded and finds that work again by the model's
/// path, so that compiling into a temporary folder at every start would repeat it.  Models that no start has used for
/// long, such as those of earlier versions of the app, are removed when a new one comes.
struct CompiledModelCache {
    let folder: URL
    /// Compiled models that are kept; more only while this process uses them.
    let limit: Int

    /// - Parameter folder: nil is `EdgeSAM/CompiledModels` in Application Support.
    init(folder: URL?, limit: Int = EdgeSAMOptions.defaultCompiledModelLimit) throws {
        self.limit = max(0, limit)
        if let folder {
            self.folder = folder
        } else {
            do {
                let support = try FileManager.default.url(
                    for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
                self.folder = support.appending(path: "EdgeSAM/CompiledModels")
            } catch {
                throw EdgeSAMError.cannotStore(folder: "Application Support", reason: error.localizedDescription)
            }
        }
    }

    /// The compiled form of a model: the model itself when it is compiled, else from the cache, compiled if need be.
    func compiled(_ model: URL) async throws -> URL {
        guard model.isFileURL else { throw EdgeSAMError.notAFile(url: model.absoluteString) }
        guard FileManager.default.fileExists(atPath: model.path) else {
            throw EdgeSAMError.missingFile(path: model.path)
        }
        switch model.pathExtension {
        case "mlmodelc": return model
        case "mlpackage":
            try PackageCompleteness.check(model)
            return try await compiledPackage(model)
        default: throw EdgeSAMError.notAModel(path: model.path)
        }
    }

    /// Forget the compiled form of a package, so that the next call compiles it again.
    func remove(_ model: URL) throws {
        guard model.pathExtension == "mlpackage" else { return }
        try FileManager.default.removeItem(at: try location(of: model))
    }

    private func compiledPackage(_ package: URL) async throws -> URL {
        let file = package.lastPathComponent
        do {
            let final = try location(of: package)
            let entry = final.deletingLastPathComponent()
            ModelsInUse.shared.add(entry)
            if FileManager.default.fileExists(atPath: final.path) {
                touch(entry)
                return final
            }
            let fresh = try await MLModel.compileModel(at: package)
            defer { try? FileManager.default.removeItem(at: fresh) }
            try Task.checkCancellation()
            do {
                try install(fresh, at: final)
            } catch {
                throw EdgeSAMError.cannotStore(folder: folder.path, reason: error.localizedDescription)
            }
            evict()
            return final
        } catch let error as CancellationError {
            throw error
        } catch let error as EdgeSAMError {
            throw error
        } catch {
            let reason = error.localizedDescription
            throw Self.isOutOfSpace(error)
                ? EdgeSAMError.cannotStore(folder: FileManager.default.temporaryDirectory.path, reason: reason)
                : EdgeSAMError.cannotCompile(file: file, reason: reason)
        }
    }

    /// Whether an error, or one that it was caused by, says that the device is full.
    static func isOutOfSpace(_ error: any Error) -> Bool {
        var next: NSError? = error as NSError
        while let found = next {
            switch (found.domain, found.code) {
            case (NSCocoaErrorDomain, CocoaError.fileWriteOutOfSpace.rawValue),
                (NSPOSIXErrorDomain, Int(POSIXErrorCode.ENOSPC.rawValue)):
                return true
            default: next = found.userInfo[NSUnderlyingErrorKey] as? NSError
            }
        }
        return false
    }

    /// Where the compiled form of a package lies or will lie.
    private func location(of package: URL) throws -> URL {
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

    // MARK: Models that nobody needs any more

    /// An entry's date of modification is that of its last use.
    private func touch(_ entry: URL) {
        try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: entry.path)
    }

    /// Remove the entries that were not used for longest, beyond the limit; failures are left to the next time.
    private func evict() {
        let files = FileManager.default
        let found = (try? files.contentsOfDirectory(atPath: folder.path)) ?? []
        let dated = found.filter(ContentKey.isKey).map { name in
            let entry = folder.appending(path: name)
            let used = (try? files.attributesOfItem(atPath: entry.path))?[.modificationDate] as? Date
            return (entry: entry, used: used ?? .distantPast)
        }
        for (entry, _) in dated.sorted(by: { $0.used > $1.used }).dropFirst(limit)
        where !ModelsInUse.shared.contains(entry) {
            try? files.removeItem(at: entry)
        }
    }
}

/// Entries of caches that this process loads models from; they stay.
private final class ModelsInUse: @unchecked Sendable {  // `paths` is only used under `lock`
    static let shared = ModelsInUse()

    private let lock = NSLock()
    private var paths: Set<String> = []

    func add(_ entry: URL) { lock.withLock { _ = paths.insert(entry.standardizedFileURL.path) } }

    func contains(_ entry: URL) -> Bool { lock.withLock { paths.contains(entry.standardizedFileURL.path) } }
}

/// Whether a package has the files that its manifest lists: a download that was cut off leaves some out.
enum PackageCompleteness {
    private struct Manifest: Decodable {
        struct Item: Decodable { let path: String }

        let itemInfoEntries: [String: Item]
    }

    /// - Throws: `EdgeSAMError.incompletePackage` with what is missing.
    static func check(_ package: URL) throws(EdgeSAMError) {
        let file = package.lastPathComponent
        guard let data = try? Data(contentsOf: package.appending(path: "Manifest.json")) else {
            throw .incompletePackage(file: file, missing: "Manifest.json")
        }
        guard let manifest = try? JSONDecoder().decode(Manifest.self, from: data) else {
            throw .incompletePackage(file: file, missing: "readable Manifest.json")
        }
        for item in manifest.itemInfoEntries.values.map(\.path).sorted() {
            guard FileManager.default.fileExists(atPath: package.appending(path: "Data").appending(path: item).path)
            else { throw .incompletePackage(file: file, missing: "Data/\(item)") }
        }
    }
}
