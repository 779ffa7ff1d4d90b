/// Takes a stage's samples: warm-up, then until count and duration are reached.
struct StageTimer: Sendable {
    struct Measured {
        var samples: StageSamples
        var isWarm: Bool
        var minIterationsMet: Bool
        var minDurationMet: Bool
    }

    /// Samples of one stage that are kept, whatever the schedule says.
    static let sampleLimit = 5_000_000

    let schedule: Schedule
    let paceHz: Double?
    let clock: any MonotonicClock
    let board: StatusBoard

    /// `predict` gets the number of the call, counted from zero in each phase, and returns nanoseconds.
    func measure(_ predict: (Int) async throws -> UInt64) async throws -> Measured {
        board.enter(.warming)
        let (warmup, isWarm) = try await warmUp(predict)
        board.enter(.running)
        let start = clock.nowNs
        var samples: [UInt64] = []
        samples.reserveCapacity(schedule.minIterations)
        while !isEnough(samples.count, elapsedS: clock.seconds(since: start)) {
            try Task.checkCancellation()
            try await Pace(hz: paceHz, startNs: start, clock: clock).wait(forFrame: samples.count)
            let duration = try await predict(samples.count)
            samples.append(duration)
            board.count(duration)
        }
        return Measured(
            samples: StageSamples(warmupN: warmup.count, warmupNs: warmup, samplesNs: samples), isWarm: isWarm,
            minIterationsMet: samples.count >= schedule.minIterations,
            minDurationMet: clock.seconds(since: start) >= schedule.minDurationS)
    }

    private func warmUp(_ predict: (Int) async throws -> UInt64) async throws -> ([UInt64], Bool) {
        let rule = WarmupRule(iterations: schedule.warmupIterations)
        let start = clock.nowNs
        var samples: [UInt64] = []
        while true {
            switch rule.verdict(on: samples) {
            case .warm: return (samples, true)
            case .unsteady: return (samples, false)
            case .again: break
            }
            if clock.seconds(since: start) >= schedule.maxDurationS { return (samples, false) }
            try Task.checkCancellation()
            let duration = try await predict(samples.count)
            samples.append(duration)
            board.count(duration)
        }
    }

    private func isEnough(_ count: Int, elapsedS: Double) -> Bool {
        if count == 0 { return false }
        if elapsedS >= schedule.maxDurationS || count >= Self.sampleLimit { return true }
        return count >= schedule.minIterations && elapsedS >= schedule.minDurationS
    }
}

/// Starts frames at a steady rate; a late frame does not move those after it.
struct Pace: Sendable {
    let hz: Double?
    let startNs: UInt64
    let clock: any MonotonicClock

    func wait(forFrame index: Int) async throws {
        guard let hz else { return }
        let early = Double(index) / hz - clock.seconds(since: startNs)
        if early > 0 { try await clock.sleep(seconds: early) }
    }
}
