import EdgeSAMBenchCore
import Foundation

/// The benchmark as an app or a command embeds it: find the pushed run, run it, hear of its progress.
public final class BenchSession: Sendable {
    /// Called after every heartbeat, from any thread, with the duration of the latest prediction in nanoseconds.
    public typealias Observer = BenchRun.Observer

    private let documents: URL
    private let compiledModels: URL?
    private let runID: String?
    private let app: AppDescription
    private let probe = SystemProbe()
    private let current = CurrentRun()

    /// - Parameters:
    ///   - documents: folder that the host pushes `edgesam-in-<run id>` into.
    ///   - compiledModels: where compiled models are kept; nil is a folder in Application Support.
    ///   - runID: the run to take up; nil takes the newest one without a result.
    ///   - appVersion: version of the program that embeds this; nil takes the main bundle's.
    public init(documents: URL, compiledModels: URL? = nil, runID: String? = nil, appVersion: String? = nil) {
        self.documents = documents
        self.compiledModels = compiledModels
        self.runID = runID
        app = Machine.app(version: appVersion)
    }

    /// Makes the documents folder exist, so that a push into a fresh installation finds it.
    public func prepare() throws { try DiskFileStore().createFolder(documents) }

    /// Id of the run that would be taken up now; nil where none waits.
    ///
    /// - Throws: ``BenchFailure`` where the run asked for is not there.
    public func pendingRun() throws -> String? {
        try RunFolders.pending(in: documents, runID: runID, store: DiskFileStore())?.runID
    }

    /// Runs a pushed run to its end; the documents in its out folder tell the host.
    ///
    /// - Throws: ``BenchFailure``, which stands in the status as well.
    public func run(_ id: String, onProgress: @escaping Observer = { _, _ in }) async throws -> BenchResult {
        guard let folders = try RunFolders.pending(in: documents, runID: id, store: DiskFileStore()) else {
            throw BenchFailure(stage: "received", code: "no_request", message: "run \(id) is not there")
        }
        let context = RunContext(
            probe: probe, runner: try CoreMLModelRunner(compiledModels: compiledModels), app: app,
            device: Machine.device())
        let run = BenchRun(folders, context: context, observer: onProgress)
        current.set(run)
        defer { current.set(nil) }
        return try await run.run()
    }

    /// Passes an event of the system to the run that goes on, if any.
    public func note(_ event: BenchEvent) { current.run?.note(event) }

    /// Writes the last status of the run that goes on; call it before the process ends.
    public func interrupt() { current.run?.interrupt() }
}

/// The run that goes on.
private final class CurrentRun: @unchecked Sendable {  // `value` is only used under `lock`
    private let lock = NSLock()
    private var value: BenchRun?

    var run: BenchRun? { lock.withLock { value } }

    func set(_ run: BenchRun?) { lock.withLock { value = run } }
}
