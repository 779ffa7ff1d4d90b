import EdgeSAMBenchCore
import Observation

/// State of the one screen.  Knows neither SwiftUI nor UIKit, so that it is tested on Linux.
@MainActor
@Observable
final class BenchmarkModel {
    /// What goes on.
    enum Activity: Equatable {
        case waiting
        case running
        case finished
        case failed(BenchFailure)
    }

    /// What the screen shows.
    struct State: Equatable {
        var activity = Activity.waiting
        var progress: RunProgress?
        var result: BenchResult?
        /// Whether the app left the foreground during the present or last run.
        var wasInterrupted = false

        /// The present or last run.
        var runID: String? { progress?.status.runId }
        var isRunning: Bool { activity == .running }
    }

    private(set) var state = State()

    @ObservationIgnored private let engine: any BenchmarkEngine
    /// Called with true when a run starts and with false when it is over, however it ends.
    @ObservationIgnored private let onActivity: @MainActor (Bool) -> Void

    init(engine: any BenchmarkEngine, onActivity: @escaping @MainActor (Bool) -> Void = { _ in }) {
        self.engine = engine
        self.onActivity = onActivity
    }

    /// Takes up the run that waits, if there is one.  Does nothing while a run goes on.
    func startPendingRun() async {
        guard !state.isRunning else { return }
        let before = state
        state = State(activity: .running)
        onActivity(true)
        defer { onActivity(false) }
        do {
            if let result = try await runShowingProgress() {
                state.result = result
                state.activity = .finished
            } else {
                // Nothing waited: what an earlier run gave stays on the screen.
                state = before
            }
        } catch {
            state.activity = .failed(.wrapping(error, stage: "app"))
        }
    }

    /// Passes an event of the system on; an interruption is shown as well.
    func note(_ event: BenchEvent) {
        guard state.isRunning else { return }
        if event == .backgrounded { state.wasInterrupted = true }
        engine.note(event)
    }

    /// Tells the host that the run ends here; to be called when the system ends the app.
    func interrupt() { engine.interrupt() }

    private func runShowingProgress() async throws -> BenchResult? {
        // Only the newest heartbeat counts: the measurement must never wait for the screen.
        let (updates, sink) = AsyncStream.makeStream(of: RunProgress.self, bufferingPolicy: .bufferingNewest(1))
        let display = Task {
            for await update in updates { state.progress = update }
        }
        let outcome: Result<BenchResult?, any Error>
        do {
            outcome = .success(try await engine.runPending { sink.yield($0) })
        } catch {
            outcome = .failure(error)
        }
        // The last heartbeat is shown before the outcome, or it would come behind it.
        sink.finish()
        await display.value
        return try outcome.get()
    }
}
