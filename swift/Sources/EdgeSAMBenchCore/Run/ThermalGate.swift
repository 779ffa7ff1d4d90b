/// Holds a case back until the device is cool enough.
struct ThermalGate: Sendable {
    static let pollS = 1.0

    let limit: ThermalLevel
    let timeoutS: Double
    let clock: any MonotonicClock
    let probe: any EnvironmentProbe

    /// Returns once the state is at most `limit`, at once where the system does not tell; throws after the deadline.
    func wait() async throws {
        let start = clock.nowNs
        while let thermal = probe.read().thermal, thermal > limit {
            let left = timeoutS - clock.seconds(since: start)
            guard left > 0 else {
                throw BenchFailure(
                    stage: BenchPhase.waitingThermal.rawValue, code: Self.timeoutCode,
                    message: "thermal state is \(thermal.rawValue) after \(timeoutS) s, the case may start at "
                        + "\(limit.rawValue)",
                    hint: "let the device cool down, take it out of its case, unplug it")
            }
            try await clock.sleep(seconds: min(Self.pollS, left))
        }
    }

    static let timeoutCode = "thermal_timeout"
}
