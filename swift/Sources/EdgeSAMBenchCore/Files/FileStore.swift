import Foundation

/// The files that a run touches, behind an interface that a test can make fail.
public protocol FileStore: Sendable {
    /// The whole file.  Throws where it holds more than `limit` bytes.
    func read(_ file: URL, limit: Int) throws -> Data
    /// Passes the file to `body` in pieces.
    func forEachPiece(of file: URL, _ body: (Data) throws -> Void) throws
    /// Writes beside the final path, then renames: a reader sees the old file or the new one.
    func writeAtomically(_ data: Data, to file: URL) throws
    /// Appends and forces the bytes to the disk, so that they survive a crash.
    func append(_ data: Data, to file: URL) throws
    /// What a folder holds, in no order.
    func entries(of folder: URL) throws -> [FileEntry]
    /// What stands at a path; nil where nothing does.  A link is not followed.
    func entry(at path: URL) -> FileEntry?
    func createFolder(_ folder: URL) throws
    /// Removes a folder with all it holds.
    func removeFolder(_ folder: URL) throws
}

/// A name in a folder.
public struct FileEntry: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case file
        case folder
        /// Links, sockets, devices.
        case other
    }

    public var name: String
    public var kind: Kind
    public var bytes: Int
    public var modified: Date

    public init(name: String, kind: Kind, bytes: Int, modified: Date) {
        self.name = name
        self.kind = kind
        self.bytes = bytes
        self.modified = modified
    }
}
