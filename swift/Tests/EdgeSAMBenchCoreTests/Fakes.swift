import Foundation

@testable import EdgeSAMBenchCore

/// Time that passes only when somebody waits or a model predicts.
final class FakeClock: MonotonicClock {
    private let now = Locked<UInt64>(1_000_000_000)
    private let beats = Locked<[@Sendable () -> Void]>([])
    let slept = Locked<[Double]>([])

    var nowNs: UInt64 { now.with { $0 } }
    var date: Date { Date(timeIntervalSince1970: 1_800_000_000 + Double(nowNs) / 1e9) }

    func sleep(seconds: Double) async throws {
        slept.with { $0.append(seconds) }
        advance(ns: UInt64(seconds * 1e9))
    }

    /// Lets time pass and the heart beat once.
    func advance(ns: UInt64) {
        now.with { $0 += ns }
        for beat in beats.with({ $0 }) { beat() }
    }

    func onAdvance(_ beat: @escaping @Sendable () -> Void) { beats.with { $0.append(beat) } }
}

/// Beats whenever time passes.
struct FakeHeartbeat: HeartbeatSource {
    let clock: FakeClock

    func start(intervalS: Double, beat: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let isStopped = Locked(false)
        clock.onAdvance { if !isStopped.with({ $0 }) { beat() } }
        return { isStopped.with { $0 = true } }
    }
}

/// Answers with a reading that depends on the time.
struct FakeProbe: EnvironmentProbe {
    let clock: FakeClock
    var reading: @Sendable (Double) -> EnvironmentReading = { _ in EnvironmentReading(thermal: .nominal) }

    func read() -> EnvironmentReading { reading(Double(clock.nowNs) / 1e9 - 1) }
}

/// Notes what it is asked and lets the clock advance as if it worked.
actor FakeRunner: ModelRunner {
    static let predictionNs: UInt64 = 10_000_000

    nonisolated let runtime = "fake"
    private let clock: FakeClock
    private let fails: @Sendable (String) -> (any Error)?
    private let overlap: Int
    private var workers: Set<Int> = []
    private(set) var log: [String] = []

    init(
        clock: FakeClock, overlap: Int = 1, fails: @escaping @Sendable (String) -> (any Error)? = { _ in nil }
    ) {
        self.clock = clock
        self.overlap = overlap
        self.fails = fails
    }

    private func note(_ entry: String) throws {
        log.append(entry)
        if let error = fails(entry) { throw error }
    }

    func compile(_ model: ModelFile) throws -> Bool {
        let isNew = !log.contains("compile \(model.role.rawValue)")
        try note("compile \(model.role.rawValue)")
        clock.advance(ns: 250_000_000)
        return isNew
    }

    func load(_ model: ModelFile, units: ComputeUnitsChoice, hints: Hints) throws {
        try note("load \(model.role.rawValue) \(units.rawValue)")
        clock.advance(ns: 500_000_000)
    }

    func unload(_ role: ModelRole) { log.append("unload \(role.rawValue)") }

    func interface(of role: ModelRole) -> ModelInterface {
        ModelInterface(inputs: [TensorDescription(name: "in", shape: [1], dtype: "fp16")], outputs: [])
    }

    func prepare(_ stage: Stage, _ inputs: InputPlan) throws {
        try note("prepare \(stage.rawValue) \(inputs.nPoints)")
    }

    func predict(_ stage: Stage, nPoints: Int) throws -> Prediction {
        try note("predict \(stage.rawValue) n\(nPoints)")
        clock.advance(ns: Self.predictionNs)
        return Prediction(durationNs: Self.predictionNs, backingsHonoured: true)
    }

    func frame(_ stages: [Stage], nPoints: Int, worker: Int) async throws {
        try note("frame \(stages.map(\.rawValue)) worker \(worker)")
        workers.insert(worker)
        // As a framework that is only busy with all of them: nothing ends before the others have begun.
        for _ in 0..<1_000_000 where workers.count < overlap { await Task.yield() }
        clock.advance(ns: 100_000_000)
    }

    func computePlan(of role: ModelRole) -> ComputePlanSummary? { nil }

    func outputs(of role: ModelRole, feed: [String: URL]) throws -> [OutputArray] {
        try note("outputs \(role.rawValue) \(feed.keys.sorted())")
        return [OutputArray(name: "masks", npy: Data("abc".utf8))]
    }
}

/// The disk, noting the order of writings; one path can be made to fail.
final class WatchedStore: FileStore {
    private let disk = DiskFileStore()
    let written = Locked<[String]>([])
    let failing: String?

    init(failing: String? = nil) { self.failing = failing }

    private func note(_ file: URL) throws {
        if file.lastPathComponent == failing { throw POSIXError(.ENOSPC) }
        written.with { $0.append(file.lastPathComponent) }
    }

    func read(_ file: URL, limit: Int) throws -> Data { try disk.read(file, limit: limit) }
    func forEachPiece(of file: URL, _ body: (Data) throws -> Void) throws { try disk.forEachPiece(of: file, body) }
    func writeAtomically(_ data: Data, to file: URL) throws {
        try note(file)
        try disk.writeAtomically(data, to: file)
    }
    func append(_ data: Data, to file: URL) throws {
        try note(file)
        try disk.append(data, to: file)
    }
    func entries(of folder: URL) throws -> [FileEntry] { try disk.entries(of: folder) }
    func entry(at path: URL) -> FileEntry? { disk.entry(at: path) }
    func createFolder(_ folder: URL) throws { try disk.createFolder(folder) }
    func removeFolder(_ folder: URL) throws {
        if folder.lastPathComponent == failing { throw POSIXError(.EACCES) }
        try disk.removeFolder(folder)
    }
}
