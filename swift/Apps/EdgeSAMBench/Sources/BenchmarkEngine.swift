import EdgeSAMBenchCore

/// What the screen needs of a benchmark.  The app's engine is ``RuntimeEngine``; tests bring their own.
@MainActor
protocol BenchmarkEngine {
    /// Takes up the pushed run that waits and runs it to the end; nil where none waits.
    ///
    /// `onProgress` is called from any thread, with every heartbeat.
    func runPending(onProgress: @escaping @Sendable (RunProgress) -> Void) async throws -> BenchResult?

    /// Tells the run of something that may spoil its samples.
    func note(_ event: BenchEvent)

    /// Writes the last word of the run that goes on, because the app is about to end.
    func interrupt()
}

/// The heartbeat that the host reads too, and the latest sample.
struct RunProgress: Sendable, Equatable {
    var status: BenchStatus
    var lastSampleNs: UInt64?
}
