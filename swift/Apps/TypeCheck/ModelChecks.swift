// Behaviour of the app's model, run by tests/test_app_sources.py: a line for each check, "ok NAME" or "failed NAME: WHY".
import EdgeSAMBenchCore
import Foundation

struct Failed: Error { let message: String }

func expect<Value: Equatable>(_ found: Value, _ wanted: Value, line: Int = #line) throws {
    guard found == wanted else { throw Failed(message: "line \(line): found \(found), wanted \(wanted)") }
}

func status(_ run: String, _ phase: String, caseIndex: Int = 0) throws -> BenchStatus {
    let text = """
        {"protocol_version": 1, "run_id": "\(run)", "nonce": "", "seq": 1, "uptime_s": 0, "phase": "\(phase)",
         "case_index": \(caseIndex), "case_count": 3, "app_version": "1", "build_configuration": "release"}
        """
    return try BenchJSON.decode(BenchStatus.self, from: Data(text.utf8))
}

func result(_ run: String, cases: String = "") throws -> BenchResult {
    let text = """
        {"schema_version": 1, "protocol_version": 1, "run_id": "\(run)", "nonce": "", "started_at": "",
         "finished_at": "", "app": {"version": "1", "build_configuration": "release", "debugger_attached": false,
         "swift_version": "6"}, "device": {"product_type": "", "marketing_name": "", "os_version": "",
         "physical_memory": 1, "active_cores": 1, "compute_devices": []}, "models": [], "cases": [\(cases)]}
        """
    return try BenchJSON.decode(BenchResult.self, from: Data(text.utf8))
}

@MainActor
final class ScriptedEngine: BenchmarkEngine {
    var outcome: Result<BenchResult?, any Error> = .success(nil)
    var heartbeats: [RunProgress] = []
    var events: [BenchEvent] = []
    var starts = 0
    /// Called in the midst of a run.
    var during: () async throws -> Void = {}

    func runPending(onProgress: @escaping @Sendable (RunProgress) -> Void) async throws -> BenchResult? {
        starts += 1
        heartbeats.forEach(onProgress)
        try await during()
        return try outcome.get()
    }

    func note(_ event: BenchEvent) { events.append(event) }

    func interrupt() {}
}

@MainActor let checks: [(String, @MainActor () async throws -> Void)] = [
    (
        "waits_when_nothing_is_pushed",
        {
            var activity: [Bool] = []
            let model = BenchmarkModel(engine: ScriptedEngine()) { activity.append($0) }
            await model.startPendingRun()
            try expect(model.state, BenchmarkModel.State())
            try expect(activity, [true, false])
        }
    ),
    (
        "shows_the_last_heartbeat_and_the_result",
        {
            let engine = ScriptedEngine()
            let last = RunProgress(status: try status("a", "done"), lastSampleNs: 7)
            engine.heartbeats = [RunProgress(status: try status("a", "running"), lastSampleNs: 5), last]
            engine.outcome = .success(try result("a"))
            let model = BenchmarkModel(engine: engine)
            await model.startPendingRun()
            try expect(model.state.activity, .finished)
            try expect(model.state.progress, last)
            try expect(model.state.runID, "a")
            try expect(model.state.result, try result("a"))
        }
    ),
    (
        "keeps_a_result_when_nothing_new_waits_and_drops_it_when_the_next_run_fails",
        {
            let engine = ScriptedEngine()
            engine.outcome = .success(try result("a"))
            let model = BenchmarkModel(engine: engine)
            await model.startPendingRun()
            let finished = model.state
            engine.outcome = .success(nil)
            await model.startPendingRun()
            try expect(model.state, finished)
            let failure = BenchFailure(stage: "loading", code: "1", message: "no memory", hint: "close apps")
            engine.outcome = .failure(failure)
            await model.startPendingRun()
            try expect(model.state, BenchmarkModel.State(activity: .failed(failure)))
        }
    ),
    (
        "lets_the_screen_lock_again_after_a_failure",
        {
            var activity: [Bool] = []
            let engine = ScriptedEngine()
            engine.outcome = .failure(Failed(message: "x"))
            let model = BenchmarkModel(engine: engine) { activity.append($0) }
            await model.startPendingRun()
            try expect(activity, [true, false])
        }
    ),
    (
        "runs_once_at_a_time_and_passes_events_on_during_a_run_only",
        {
            let engine = ScriptedEngine()
            engine.outcome = .success(try result("a"))
            let model = BenchmarkModel(engine: engine)
            model.note(.backgrounded)
            engine.during = {
                await model.startPendingRun()
                model.note(.memoryWarning)
                try expect(model.state.wasInterrupted, false)
                model.note(.backgrounded)
                model.note(.foregrounded)
            }
            await model.startPendingRun()
            model.note(.backgrounded)
            try expect(engine.starts, 1)
            try expect(engine.events, [.memoryWarning, .backgrounded, .foregrounded])
            try expect(model.state.wasInterrupted, true)
        }
    ),
    (
        "tabulates_raw_samples",
        {
            let measured = """
                {"id": "all/all/n1", "runtime": "coreml", "compute_units": {"encoder": "all", "decoder": "all"},
                 "hints": {}, "io": "multiarray", "concurrency": 1, "n_points": 1, "vary_points": false,
                 "compile_ms": {}, "load": {"freshly_installed": false}, "first_prediction_ms": {},
                 "stages": {"decoder": {"warmup_n": 1, "warmup_ns": [1], "samples_ns": [30, 20, 25]},
                            "encoder": {"warmup_n": 0, "warmup_ns": [], "samples_ns": []}},
                 "validity": {"min_iterations_met": true, "min_duration_met": true, "throttled": true,
                 "low_power": false, "debug_build": false, "backgrounded": false, "reasons": [],
                 "circumstances": [{"code": "throttled", "detail": "serious"}, {"code": "low_power"}]},
                 "outcome": "ok"}
                """
            let table = ResultTable(try result("a", cases: "\(measured), \(measured)"))
            try expect(table.cases.map(\.id), [0, 1])
            try expect(table.cases[0].name, "all/all/n1")
            try expect(table.cases[0].remarks, ["throttled: serious", "low power"])
            try expect(
                table.cases[0].rows,
                [
                    .init(id: "encoder", lastNs: nil, lowestNs: nil, sampleCount: 0),
                    .init(id: "decoder", lastNs: 25, lowestNs: 20, sampleCount: 3),
                ])
        }
    ),
    (
        "writes_numbers_for_people",
        {
            try expect(ScreenText.milliseconds(nil), "–")
            try expect(ScreenText.milliseconds(0), "0.00 ms")
            try expect(ScreenText.milliseconds(4_219_999), "4.21 ms")
            try expect(ScreenText.milliseconds(1_234_050_000), "1234.05 ms")
            try expect(ScreenText.megabytes(123_456_789), "123 MB")
            try expect(ScreenText.position(try status("a", "running", caseIndex: 1)), "2 of 3")
            try expect(ScreenText.words("end_to_end"), "End To End")
            try expect(Set(BenchPhase.allCases.map { ScreenText.title(of: $0) }).count, BenchPhase.allCases.count)
        }
    ),
    (
        "reads_the_launch_environment",
        {
            try expect(LaunchRequest(environment: [:]).runID, nil)
            try expect(LaunchRequest(environment: ["EDGESAM_BENCH_RUN_ID": " "]).runID, nil)
            try expect(LaunchRequest(environment: ["EDGESAM_BENCH_RUN_ID": "ab-1\n"]).runID, "ab-1")
            try expect(LaunchRequest(environment: ["EDGESAM_BENCH_MODE": "prepare"]).preparesOnly, true)
            try expect(LaunchRequest(environment: ["EDGESAM_BENCH_MODE": "run"]).preparesOnly, false)
        }
    ),
]

@main
enum Checks {
    @MainActor
    static func main() async {
        for (name, check) in checks {
            do {
                try await check()
                print("ok \(name)")
            } catch {
                print("failed \(name): \((error as? Failed)?.message ?? "\(error)")")
            }
        }
    }
}
