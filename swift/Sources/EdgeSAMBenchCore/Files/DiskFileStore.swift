import Foundation

#if canImport(Darwin)
    import Darwin
#elseif canImport(Glibc)
    import Glibc
#endif

/// The real file system.
public struct DiskFileStore: FileStore {
    private static let pieceBytes = 1 << 20

    public init() {}

    public func read(_ file: URL, limit: Int) throws -> Data {
        let handle = try FileHandle(forReadingFrom: file)
        defer { try? handle.close() }
        let data = try handle.read(upToCount: limit + 1) ?? Data()
        guard data.count <= limit else {
            throw BenchFailure(
                stage: "reading", code: "too_large",
                message: "'\(file.lastPathComponent)' holds more than \(limit) bytes")
        }
        return data
    }

    public func forEachPiece(of file: URL, _ body: (Data) throws -> Void) throws {
        let handle = try FileHandle(forReadingFrom: file)
        defer { try? handle.close() }
        while let piece = try handle.read(upToCount: Self.pieceBytes), !piece.isEmpty { try body(piece) }
    }

    public func writeAtomically(_ data: Data, to file: URL) throws {
        // Data's own atomic writing is not used: the name of its intermediate file is not ours to predict or clean.
        let beside = file.deletingLastPathComponent().appending(path: ".\(file.lastPathComponent).part")
        try data.write(to: beside)
        guard rename(beside.path(percentEncoded: false), file.path(percentEncoded: false)) == 0 else {
            throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO)
        }
    }

    public func append(_ data: Data, to file: URL) throws {
        let path = file.path(percentEncoded: false)
        if !FileManager.default.fileExists(atPath: path) {
            guard FileManager.default.createFile(atPath: path, contents: nil) else {
                throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO)
            }
        }
        let handle = try FileHandle(forWritingTo: file)
        defer { try? handle.close() }
        try handle.seekToEnd()
        try handle.write(contentsOf: data)
        try handle.synchronize()
    }

    public func entries(of folder: URL) throws -> [FileEntry] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path(percentEncoded: false))
            .compactMap { entry(at: folder.appending(path: $0)) }
    }

    public func entry(at path: URL) -> FileEntry? {
        guard
            let found = try? FileManager.default.attributesOfItem(atPath: path.path(percentEncoded: false)),
            let type = found[.type] as? FileAttributeType
        else { return nil }
        let kind: FileEntry.Kind
        switch type {
        case .typeRegular: kind = .file
        case .typeDirectory: kind = .folder
        default: kind = .other
        }
        return FileEntry(
            name: path.lastPathComponent, kind: kind, bytes: (found[.size] as? NSNumber)?.intValue ?? 0,
            modified: found[.modificationDate] as? Date ?? .distantPast)
    }

    public func createFolder(_ folder: URL) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    public func removeFolder(_ folder: URL) throws { try FileManager.default.removeItem(at: folder) }
}
