import Foundation

/// Where a run is, and its writing to `status.json`.  Shared by the run and the heartbeat.
final class StatusBoard: Sendable {
    /// Called after every writing, with the duration of the latest prediction.
    typealias Observer = @Sendable (BenchStatus, _ lastSampleNs: UInt64?) -> Void

    private struct State {
        var status: BenchStatus
        var lastSampleNs: UInt64?
        var isClosed = false
        var writtenNs: UInt64 = 0
    }

    private let state: Locked<State>
    private let file: URL
    private let store: any FileStore
    private let clock: any MonotonicClock
    private let probe: any EnvironmentProbe
    private let startNs: UInt64
    private let observer: Observer

    init(
        _ status: BenchStatus, file: URL, store: any FileStore, clock: any MonotonicClock,
        probe: any EnvironmentProbe, observer: @escaping Observer
    ) {
        state = Locked(State(status: status))
        self.file = file
        self.store = store
        self.clock = clock
        self.probe = probe
        self.observer = observer
        startNs = clock.nowNs
    }

    /// Starts a phase and says so at once.
    func enter(_ phase: BenchPhase) {
        write {
            $0.status.phase = phase
            $0.status.iteration = 0
        }
    }

    /// Sets how many cases there are, and which one runs.
    func enter(caseIndex: Int?, of count: Int) {
        state.with {
            $0.status.caseIndex = caseIndex
            $0.status.caseCount = count
        }
    }

    /// Counts a prediction; the next heartbeat tells.
    func count(_ durationNs: UInt64?) {
        state.with {
            $0.status.iteration = ($0.status.iteration ?? 0) + 1
            if let durationNs { $0.lastSampleNs = durationNs }
        }
    }

    /// Writes again unless that happened within `seconds`.
    func beat(ifOlderThan seconds: Double) {
        let age = state.with { clock.nowNs - $0.writtenNs }
        if Double(age) / 1e9 >= seconds { write { _ in } }
    }

    /// The last word: nothing is written afterwards.
    func fail(_ failure: BenchFailure) {
        write {
            $0.status.phase = .failed
            $0.status.error = failure
            $0.isClosed = true
        }
    }

    /// The last word: the result is complete.
    func finish(_ result: ResultReference) {
        write {
            $0.status.phase = .done
            $0.status.caseIndex = nil
            $0.status.result = result
            $0.isClosed = true
        }
    }

    /// Changes and writes under one lock, so that `seq` rises in the order of the writings.
    private func write(_ change: (inout State) -> Void) {
        let reading = probe.read()
        let seen = state.with { state -> (BenchStatus, UInt64?)? in
            guard !state.isClosed else { return nil }
            change(&state)
            state.status.seq += 1
            state.status.uptimeS = clock.seconds(since: startNs)
            state.status.thermalState = reading.thermal
            state.status.physFootprint = reading.footprint
            state.writtenNs = clock.nowNs
            // A status that cannot be written must not end the measurement: the host sees the heartbeat stop.
            if let data = try? BenchJSON.document(state.status) { try? store.writeAtomically(data, to: file) }
            return (state.status, state.lastSampleNs)
        }
        if let (status, sample) = seen { observer(status, sample) }
    }
}
