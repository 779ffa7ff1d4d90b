import EdgeSAMDigest
import Foundation

/// Size and SHA-256 of a file or a folder; the same digest as `edgesam_export.files.sha256_of`.
///
/// A file's digest is that of its bytes.  A folder's goes over its files in the order of their relative paths, compared
/// part by part: path, NUL, size in decimal digits, NUL, then the file's bytes.
public struct TreeDigest: Sendable, Equatable {
    public let sha256: String
    public let bytes: Int

    /// More files than any package has; stops a folder that never ends.
    static let fileLimit = 10_000

    public static func of(_ path: URL, in store: any FileStore) throws -> TreeDigest {
        guard let root = store.entry(at: path) else { throw refusal(path, "does not exist") }
        var digest = SHA256()
        switch root.kind {
        case .other: throw refusal(path, "is neither a file nor a folder")
        case .file:
            try store.forEachPiece(of: path) { digest.update($0) }
            return TreeDigest(sha256: digest.finish(), bytes: root.bytes)
        case .folder: break
        }
        var members: [(parts: [String], file: URL, bytes: Int)] = []
        try collect(path, parts: [], store: store, into: &members)
        members.sort { left, right in
            left.parts.lexicographicallyPrecedes(right.parts) { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        }
        for member in members {
            digest.update(Data("\(member.parts.joined(separator: "/"))\0\(member.bytes)\0".utf8))
            try store.forEachPiece(of: member.file) { digest.update($0) }
        }
        return TreeDigest(sha256: digest.finish(), bytes: members.reduce(0) { $0 + $1.bytes })
    }

    private static func collect(
        _ folder: URL, parts: [String], store: any FileStore,
        into members: inout [(parts: [String], file: URL, bytes: Int)]
    ) throws {
        for entry in try store.entries(of: folder) {
            let path = folder.appending(path: entry.name)
            switch entry.kind {
            case .other: throw refusal(path, "is a link or not a plain file")
            case .folder: try collect(path, parts: parts + [entry.name], store: store, into: &members)
            case .file: members.append((parts + [entry.name], path, entry.bytes))
            }
            guard members.count <= fileLimit else { throw refusal(folder, "holds more than \(fileLimit) files") }
        }
    }

    private static func refusal(_ path: URL, _ reason: String) -> BenchFailure {
        BenchFailure(stage: "received", code: "model_files", message: "'\(path.lastPathComponent)' \(reason)")
    }
}
