/// Watches the circumstances of a case: changes become events, samples a series.
final class EnvironmentMonitor: Sendable {
    /// What a case's watching gave.
    struct Report {
        var environment: CaseEnvironment
        var memory: MemoryUse
        var highestThermal: ThermalLevel?
        var wasLowPower: Bool
        var wasBackgrounded: Bool
        var timeToFairS: Double?
        var timeToSeriousS: Double?
    }

    fileprivate struct Watch {
        var startNs: UInt64
        var start: EnvironmentReading
        var last: EnvironmentReading
        var report: Report
        var sampledNs: UInt64?
    }

    /// More points than a day at 1 Hz; stops a series that fills the memory.
    private static let seriesLimit = 100_000

    private let watch: Locked<Watch?> = Locked(nil)
    /// Kept between cases: an app that is in the background stays there.
    private let isBackgrounded = Locked(false)
    private let probe: any EnvironmentProbe
    private let clock: any MonotonicClock
    private let intervalNs: UInt64?

    /// `seriesHz` zero records no series.
    init(probe: any EnvironmentProbe, clock: any MonotonicClock, seriesHz: Double) {
        self.probe = probe
        self.clock = clock
        intervalNs = seriesHz > 0 ? UInt64(1e9 / seriesHz) : nil
    }

    /// Starts watching a case.
    func begin() {
        let reading = probe.read()
        let conditions = CaseEnvironment.Conditions(reading)
        let report = Report(
            environment: CaseEnvironment(start: conditions, end: conditions, series: [], events: []),
            memory: MemoryUse(footprintBefore: reading.footprint), wasLowPower: false,
            wasBackgrounded: isBackgrounded.with { $0 })
        watch.with {
            $0 = Watch(startNs: clock.nowNs, start: reading, last: reading, report: report)
            $0?.take(reading, atS: 0)
        }
        tick()
    }

    /// Reads the probe; called by the heartbeat, and at moments that matter.
    func tick() {
        let reading = probe.read()
        let now = clock.nowNs
        watch.with { watch in
            guard var seen = watch else { return }
            let time = Double(now - seen.startNs) / 1e9
            seen.noteChanges(to: reading, atS: time)
            seen.take(reading, atS: time)
            if let intervalNs, seen.report.environment.series.count < Self.seriesLimit {
                if seen.sampledNs.map({ now - $0 >= intervalNs }) ?? true {
                    seen.sampledNs = now
                    seen.report.environment.series.append(CaseEnvironment.Point(reading, atS: time))
                }
            }
            watch = seen
        }
    }

    /// Records an event that only the app hears of.
    func note(_ event: BenchEvent, value: String? = nil) {
        if event == .backgrounded { isBackgrounded.with { $0 = true } }
        if event == .foregrounded { isBackgrounded.with { $0 = false } }
        let now = clock.nowNs
        watch.with {
            guard let startNs = $0?.startNs else { return }
            let time = Double(now - startNs) / 1e9
            $0?.report.environment.events.append(EnvironmentEvent(tS: time, kind: event, value: value))
            if event == .backgrounded { $0?.report.wasBackgrounded = true }
        }
    }

    /// Thermal state now and at every change since `startNs`, times counted from there.
    func thermalSeries(since startNs: UInt64) -> [ThermalPoint]? {
        watch.with { watch in
            guard let watch, let last = watch.last.thermal else { return nil }
            let offset = Double(startNs - watch.startNs) / 1e9
            let changes = watch.report.environment.events.filter { $0.kind == .thermal }
            let before = changes.last { $0.tS <= offset }?.value.flatMap(ThermalLevel.init)
            let first = before ?? watch.start.thermal ?? last
            let during = changes.filter { $0.tS > offset }.compactMap { event in
                event.value.flatMap(ThermalLevel.init).map { ThermalPoint(tS: event.tS - offset, thermal: $0) }
            }
            return [ThermalPoint(tS: 0, thermal: first)] + during
        }
    }

    /// Stops watching.
    func end() -> Report? {
        tick()
        return watch.with { watch in
            defer { watch = nil }
            guard let seen = watch else { return nil }
            var report = seen.report
            report.environment.end = CaseEnvironment.Conditions(seen.last)
            report.memory.footprintAfter = seen.last.footprint
            // The process's own high-water mark also knows peaks between two samples, where it rose in this case.
            if let mark = seen.last.footprintHighWater, let before = seen.start.footprintHighWater, mark > before {
                report.memory.footprintPeak = max(mark, report.memory.footprintPeak ?? 0)
            }
            return report
        }
    }
}

extension EnvironmentMonitor.Watch {
    /// Turns differences from the last reading into events.
    fileprivate mutating func noteChanges(to reading: EnvironmentReading, atS time: Double) {
        if let thermal = reading.thermal, thermal != last.thermal {
            report.environment.events.append(EnvironmentEvent(tS: time, kind: .thermal, value: thermal.rawValue))
        }
        if let lowPower = reading.lowPower, lowPower != (last.lowPower ?? false) {
            report.environment.events.append(
                EnvironmentEvent(tS: time, kind: .lowPower, value: lowPower ? "on" : "off"))
        }
    }

    /// Takes the highest and lowest values of a reading.
    fileprivate mutating func take(_ reading: EnvironmentReading, atS time: Double) {
        last = reading
        if let thermal = reading.thermal {
            report.highestThermal = max(thermal, report.highestThermal ?? thermal)
            if thermal >= .fair, report.timeToFairS == nil { report.timeToFairS = time }
            if thermal >= .serious, report.timeToSeriousS == nil { report.timeToSeriousS = time }
        }
        if reading.lowPower == true { report.wasLowPower = true }
        if let footprint = reading.footprint {
            report.memory.footprintPeak = max(footprint, report.memory.footprintPeak ?? 0)
        }
        if let available = reading.available {
            report.memory.availableMin = min(available, report.memory.availableMin ?? available)
        }
    }
}

extension CaseEnvironment.Point {
    init(_ reading: EnvironmentReading, atS time: Double) {
        self.init(
            tS: time, thermal: reading.thermal, footprint: reading.footprint, available: reading.available,
            batteryLevel: reading.batteryLevel, lowPower: reading.lowPower)
    }
}
