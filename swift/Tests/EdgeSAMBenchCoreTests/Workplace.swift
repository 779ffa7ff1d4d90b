import FixtureSupport
import Foundation

@testable import EdgeSAMBenchCore

/// A documents folder with one pushed run of two tiny "models".
final class Workplace: Sendable {
    static let runID = "6f1d2c3b-4a59-4687-9c10-1234567890ab"

    let documents: URL
    let clock = FakeClock()
    let store: WatchedStore
    let statuses = Locked<[BenchStatus]>([])
    var folders: RunFolders { RunFolders(documents: documents, runID: Self.runID) }

    init(store: WatchedStore = WatchedStore()) throws {
        self.store = store
        documents = FileManager.default.temporaryDirectory.appending(path: "bench-core-\(UUID().uuidString)")
        try push { _ in }
    }

    deinit { try? FileManager.default.removeItem(at: documents) }

    /// The golden request made small: one row, one number of points, no waiting.
    static func request() throws -> BenchRequest {
        let golden = try Data(contentsOf: Fixtures.goldens.appending(path: "bench/request.json"))
        var request = try RequestReader.request(from: golden)
        request.models[0].relativePath = "models/encoder.mlpackage"
        request.models[1].relativePath = "models/decoder.mlpackage"
        request.matrix = [MatrixRow(computeUnits: UnitsPerRole(encoder: .cpuOnly, decoder: .all), hints: nil)]
        request.schedule = Schedule(
            warmupIterations: 4, minIterations: 10, minDurationS: 0, maxDurationS: 100, sustainedDurationS: 0,
            loadRepeats: 0, cooldownS: 0, startWhenThermalAtMost: .fair, startThermalTimeoutS: 30)
        request.workload.stages = [.encoder, .decoder]
        request.workload.nPoints = [1]
        request.workload.varyPoints = false
        request.collect = Collect(computePlan: false, timeseriesHz: 0, parityOutputs: false, parityInputs: [])
        return request
    }

    /// Writes the models and the request after `change`; digests are made to fit.
    func push(_ change: (inout BenchRequest) -> Void) throws {
        for name in ["encoder", "decoder"] {
            let package = folders.input.appending(path: "models/\(name).mlpackage")
            try FileManager.default.createDirectory(at: package, withIntermediateDirectories: true)
            try Data(name.utf8).write(to: package.appending(path: "model.bin"))
        }
        try FileManager.default.createDirectory(
            at: folders.input.appending(path: "inputs"), withIntermediateDirectories: true)
        try Data("x".utf8).write(to: folders.input.appending(path: "inputs/a.npy"))
        var request = try Self.request()
        for index in request.models.indices {
            let path = folders.input.appending(path: request.models[index].relativePath)
            request.models[index].sha256Tree = try TreeDigest.of(path, in: store).sha256
        }
        change(&request)
        try BenchJSON.document(request).write(to: folders.request)
    }

    func run(
        _ runner: FakeRunner? = nil,
        reading: @escaping @Sendable (Double) -> EnvironmentReading = { _ in
            EnvironmentReading(thermal: .nominal)
        }, build: String = "release", prepare: (BenchRun) -> Void = { _ in }
    ) async throws -> BenchResult {
        let context = RunContext(
            store: store, clock: clock, probe: FakeProbe(clock: clock, reading: reading),
            runner: runner ?? FakeRunner(clock: clock), heartbeat: FakeHeartbeat(clock: clock),
            app: AppDescription(
                version: "1", buildConfiguration: build, debuggerAttached: false, swiftVersion: "6"),
            device: DeviceDescription(
                productType: "fake", marketingName: "fake", osVersion: "1", physicalMemory: 1, activeCores: 1))
        let statuses = statuses
        let run = BenchRun(folders, context: context) { status, _ in statuses.with { $0.append(status) } }
        prepare(run)
        return try await run.run()
    }

    func status() throws -> BenchStatus {
        try BenchJSON.decode(BenchStatus.self, from: Data(contentsOf: folders.status))
    }

    var phases: [BenchPhase] {
        statuses.with { $0.map(\.phase) }.reduce(into: []) { if $0.last != $1 { $0.append($1) } }
    }
}
