import Foundation

/// Paths that come from a request and must stay inside a folder.
enum RelativePath {
    static let lengthLimit = 512

    /// Why `path` is not acceptable; nil where it is.
    static func fault(in path: String) -> String? {
        if path.isEmpty { return "is empty" }
        if path.utf8.count > lengthLimit { return "is longer than \(lengthLimit) bytes" }
        if path.hasPrefix("/") { return "is absolute" }
        if path.contains("\\") || path.contains("\0") { return "holds a backslash or a NUL" }
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        if parts.contains("..") { return "leaves the folder" }
        if parts.contains("") || parts.contains(".") { return "holds an empty part or '.'" }
        return nil
    }

    /// The file or folder that `path` names inside `folder`.
    ///
    /// Throws where a part of it is a link, which could lead out of the folder, or does not exist.
    static func resolve(_ path: String, in folder: URL, store: any FileStore, field: String) throws -> URL {
        if let fault = fault(in: path) { throw RequestFault.value(field, "'\(path)' \(fault)") }
        var position = folder
        for part in path.split(separator: "/") {
            position.append(path: String(part))
            guard let entry = store.entry(at: position) else {
                throw RequestFault.value(field, "'\(path)' does not exist in the pushed folder")
            }
            if entry.kind == .other { throw RequestFault.value(field, "'\(path)' goes through a link") }
        }
        return position
    }
}
