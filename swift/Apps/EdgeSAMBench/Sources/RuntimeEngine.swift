import EdgeSAMBenchCore
import EdgeSAMBenchRuntime
import Foundation

/// The benchmark on this device's Core ML.
@MainActor
final class RuntimeEngine: BenchmarkEngine {
    /// The run that the launch asked for, until it has been taken up.
    private var askedRun: String?
    private var session: BenchSession?

    init(launch: LaunchRequest) {
        askedRun = launch.runID
    }

    /// Where the host pushes requests and reads results; asking for it makes it.
    nonisolated static func documents() throws -> URL {
        try FileManager.default.url(for: .documentDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
    }

    func runPending(onProgress: @escaping @Sendable (RunProgress) -> Void) async throws -> BenchResult? {
        let session = BenchSession(documents: try Self.documents(), runID: askedRun)
        // A later tap means the newest run, not the same one again.
        askedRun = nil
        guard let id = try session.pendingRun() else { return nil }
        self.session = session
        defer { self.session = nil }
        return try await session.run(id) { status, lastSampleNs in
            onProgress(RunProgress(status: status, lastSampleNs: lastSampleNs))
        }
    }

    func note(_ event: BenchEvent) { session?.note(event) }

    func interrupt() { session?.interrupt() }
}
