/// Throughput: frames that overlapped workers finish within a window.
struct SustainedRun: Sendable {
    let durationS: Double
    let workers: Int
    let paceHz: Double?
    let clock: any MonotonicClock
    let board: StatusBoard

    /// `frame` gets the worker's number.  The window ends when the last frame begun within it is finished.
    func run(_ frame: @escaping @Sendable (Int) async throws -> Void) async throws -> Sustained {
        let start = clock.nowNs
        let begun = Locked(0)
        let frames = try await withThrowingTaskGroup(of: Int.self) { group in
            for worker in 0..<workers {
                group.addTask {
                    var finished = 0
                    while clock.seconds(since: start) < durationS {
                        try Task.checkCancellation()
                        let index = begun.with { count in
                            defer { count += 1 }
                            return count
                        }
                        try await Pace(hz: paceHz, startNs: start, clock: clock).wait(forFrame: index)
                        try await frame(worker)
                        finished += 1
                        board.count(nil)
                    }
                    return finished
                }
            }
            return try await group.reduce(0, +)
        }
        return Sustained(windowS: clock.seconds(since: start), frames: frames)
    }
}
