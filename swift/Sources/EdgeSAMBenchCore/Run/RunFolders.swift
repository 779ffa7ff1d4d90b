import Foundation

/// Where a run's files lie below the documents folder.
public struct RunFolders: Sendable, Equatable {
    static let inPrefix = "edgesam-in-"
    static let outPrefix = "edgesam-out-"

    public let runID: String
    /// What the host pushed; only read.
    public let input: URL
    /// What the runner writes.
    public let output: URL

    public init(documents: URL, runID: String) {
        self.runID = runID
        input = documents.appending(path: Self.inPrefix + runID)
        output = documents.appending(path: Self.outPrefix + runID)
    }

    public var request: URL { input.appending(path: "request.json") }
    public var status: URL { output.appending(path: "status.json") }
    public var partial: URL { output.appending(path: "partial.ndjson") }
    public var result: URL { output.appending(path: "result.json") }

    /// The run to take up: the one asked for, else the newest pushed one without a result; nil where there is none.
    ///
    /// Newest by the time at which the request was written here, then by name.
    public static func pending(in documents: URL, runID: String?, store: any FileStore) throws -> RunFolders? {
        if let runID { return try asked(runID, in: documents, store: store) }
        let candidates = try store.entries(of: documents).compactMap { entry -> (RunFolders, Date)? in
            guard entry.kind == .folder, entry.name.hasPrefix(inPrefix) else { return nil }
            let folders = RunFolders(documents: documents, runID: String(entry.name.dropFirst(inPrefix.count)))
            guard RunIdentifier.isValid(folders.runID), store.entry(at: folders.result) == nil,
                let request = store.entry(at: folders.request), request.kind == .file
            else { return nil }
            return (folders, request.modified)
        }
        return candidates.max { ($0.1, $0.0.runID) < ($1.1, $1.0.runID) }?.0
    }

    /// Removes the pushed folders of runs that have a result: their models would fill the device.
    ///
    /// A folder that cannot be removed stays; the host reads nothing of it.
    static func removeAnswered(in documents: URL, store: any FileStore) {
        for entry in (try? store.entries(of: documents)) ?? [] where entry.kind == .folder {
            guard entry.name.hasPrefix(inPrefix) else { continue }
            let folders = RunFolders(documents: documents, runID: String(entry.name.dropFirst(inPrefix.count)))
            if RunIdentifier.isValid(folders.runID), store.entry(at: folders.result)?.kind == .file {
                try? store.removeFolder(folders.input)
            }
        }
    }

    private static func asked(_ runID: String, in documents: URL, store: any FileStore) throws -> RunFolders {
        guard RunIdentifier.isValid(runID) else {
            throw BenchFailure(
                stage: "received", code: "bad_run_id", message: "'\(runID.prefix(64))' is not a lower-case UUID")
        }
        let folders = RunFolders(documents: documents, runID: runID)
        guard store.entry(at: folders.request)?.kind == .file else {
            throw BenchFailure(
                stage: "received", code: "no_request",
                message: "run \(runID): '\(inPrefix)\(runID)/request.json' is not in the documents folder",
                hint: "push the run first")
        }
        return folders
    }
}
