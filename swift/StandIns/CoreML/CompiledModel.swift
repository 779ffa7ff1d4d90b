/// The folder that `MLModel.compileModel(at:)` makes: a copy of the package, and a file that says so.
///
/// Core ML's own `.mlmodelc` holds something else; neither can load the other's.
struct CompiledModel {
    private struct Marker: Codable {
        var format = "edgesam-coreml-stand-in/1"
        var model: String
    }

    private static let markerName = "stand-in.json"

    /// The package inside.
    let package: URL

    /// Opens a compiled model.
    init(contentsOf url: URL) throws {
        guard url.pathExtension == "mlmodelc" else {
            throw MLModelError(
                .io,
                message: "\(url.path): only a compiled model (.mlmodelc) can be loaded; "
                    + "MLModel.compileModel(at:) makes one")
        }
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw MLModelError(.io, message: "\(url.path): no such compiled model")
        }
        guard let data = try? Data(contentsOf: url.appending(path: Self.markerName)),
            let marker = try? JSONDecoder().decode(Marker.self, from: data),
            marker.format == Marker(model: "").format, !marker.model.contains("/")
        else {
            throw MLModelError(
                .io, message: "\(url.path): not compiled here; a model compiled by Core ML runs on Apple systems only")
        }
        package = url.appending(path: marker.model)
    }

    /// Copies a package into a new folder for temporary files and returns it.
    static func make(from package: URL) throws -> URL {
        let files = FileManager.default
        let name = package.deletingPathExtension().lastPathComponent
        let parent = files.temporaryDirectory.appending(path: "edgesam-coreml-\(UUID().uuidString)")
        let folder = parent.appending(path: "\(name).mlmodelc")
        do {
            try files.createDirectory(at: folder, withIntermediateDirectories: true)
            let inside = "model.\(package.pathExtension)"
            try files.copyItem(at: package, to: folder.appending(path: inside))
            try JSONEncoder().encode(Marker(model: inside)).write(to: folder.appending(path: markerName))
        } catch {
            try? files.removeItem(at: parent)
            throw MLModelError(.io, message: "\(package.path): cannot be copied: \(error.localizedDescription)")
        }
        return folder
    }
}
