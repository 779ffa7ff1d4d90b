import EdgeSAMDigest
import Foundation
import Testing

@testable import EdgeSAMBenchCore

@Test func aCaseLoadsThenWarmsThenMeasures() async throws {
    let place = try Workplace()
    try place.push {
        $0.schedule.loadRepeats = 1
        $0.schedule.warmupIterations = 2
        $0.schedule.minIterations = 1
        $0.workload.stages = [.encoder]
    }
    let runner = FakeRunner(clock: place.clock)
    let result = try await place.run(runner)
    let log = await runner.log
    #expect(
        log == [
            "compile encoder", "load encoder cpu_only", "unload encoder", "load encoder cpu_only",
            "prepare encoder [1]", "predict encoder n1", "predict encoder n1", "predict encoder n1",
            "predict encoder n1", "unload encoder", "unload decoder",
        ])
    let measured = result.cases[0]
    #expect(measured.compileMs.encoder == 250)
    #expect(measured.compileMs.decoder == nil)
    #expect(measured.load.encoder == .init(firstMs: 500, repeatsMs: [500]))
    #expect(measured.load.freshlyInstalled)
    #expect(measured.firstPredictionMs.encoder == 10)
    #expect(measured.backingsHonoured?.encoder == true)
    #expect(result.models.map(\.role) == [.encoder, .decoder])
    #expect(result.models[0].bytes == 7)
    #expect(result.models[0].inputs?.first?.name == "in")
}

@Test func phasesComeInOrderAndSeqRises() async throws {
    let place = try Workplace()
    try place.push {
        $0.workload.stages = [.encoder]
        $0.matrix.append(MatrixRow(computeUnits: UnitsPerRole(encoder: .all, decoder: .all), hints: nil))
        $0.schedule.cooldownS = 3
    }
    let result = try await place.run()
    let one: [BenchPhase] = [.compiling, .waitingThermal, .loading, .warming, .running]
    #expect(place.phases == [.received] + one + [.cooling] + one + [.writing, .done])
    let seqs = place.statuses.with { $0.map(\.seq) }
    #expect(zip(seqs, seqs.dropFirst()).allSatisfy { $0 < $1 })
    #expect(place.clock.slept.with { $0 } == [3])
    // Only the first case was the first load of freshly compiled models for its units; the second had others.
    #expect(result.cases.map(\.load.freshlyInstalled) == [true, true])
    #expect(result.cases.map { $0.compileMs.encoder != nil } == [true, false])

    let last = try place.status()
    let document = try Data(contentsOf: place.folders.result)
    #expect(last.phase == .done)
    #expect(
        last.result
            == ResultReference(
                file: "result.json", bytes: document.count, sha256: SHA256.hexDigest(of: document)))
    #expect(try BenchJSON.decode(BenchResult.self, from: document) == result)
    #expect(
        place.store.written.with { $0 }.filter { $0 != "status.json" } == [
            "partial.ndjson", "partial.ndjson", "result.json",
        ])
}

@Test func theHeartBeatsWhileAModelLoads() async throws {
    let place = try Workplace()
    _ = try await place.run()
    // Half a second passes in each load, without a word from the run.
    let loading = place.statuses.with { $0.filter { $0.phase == .loading } }
    #expect(loading.count >= 2)
}

@Test func aFailingCaseIsRecordedAndTheRunGoesOn() async throws {
    let place = try Workplace()
    try place.push {
        $0.matrix.insert(MatrixRow(computeUnits: UnitsPerRole(encoder: .all, decoder: .cpuAndGPU), hints: nil), at: 0)
    }
    let runner = FakeRunner(clock: place.clock) { entry in
        entry == "load decoder cpu_and_gpu"
            ? NSError(domain: "com.apple.CoreML", code: 11, userInfo: [NSLocalizedDescriptionKey: "no such plan"])
            : nil
    }
    let result = try await place.run(runner)
    #expect(result.cases.map(\.outcome) == [.failed, .passed])
    #expect(
        result.cases[0].error
            == BenchFailure(stage: "loading", code: "11", domain: "com.apple.CoreML", message: "no such plan"))
    #expect(result.cases[0].stages.isEmpty)
    #expect(try place.status().phase == .done)
}

@Test func samplesTakenBeforeAFailureAreKept() async throws {
    let place = try Workplace()
    let runner = FakeRunner(clock: place.clock) { entry in
        entry.hasPrefix("predict decoder") ? BenchFailure(stage: "outputs", code: "not_finite", message: "NaN") : nil
    }
    let measured = try await place.run(runner).cases[0]
    #expect(measured.outcome == .failed)
    #expect(measured.error?.code == "not_finite")
    #expect(measured.stages["encoder"]?.samplesNs.count == 10)
    #expect(measured.stages["decoder"] == nil)
}

@Test func aHotDeviceIsWaitedForUntilItCools() async throws {
    let place = try Workplace()
    let result = try await place.run { time in EnvironmentReading(thermal: time < 10 ? .serious : .fair) }
    #expect(result.cases[0].outcome == .passed)
    #expect(place.clock.slept.with { $0.count } == 10)
    #expect(place.phases.contains(.waitingThermal))
}

@Test func aDeviceThatStaysHotEndsTheCaseAtTheDeadline() async throws {
    let place = try Workplace()
    let result = try await place.run { _ in EnvironmentReading(thermal: .critical) }
    #expect(result.cases[0].outcome == .timeout)
    #expect(result.cases[0].error?.code == "thermal_timeout")
    #expect(result.cases[0].error?.stage == "waiting_thermal")
    #expect(place.clock.slept.with { $0.reduce(0, +) } == 30)
}

@Test func circumstancesAreRecordedAsCodes() async throws {
    let place = try Workplace()
    try place.push {
        $0.schedule.minIterations = 500
        $0.collect.timeseriesHz = 1
    }
    let noted = Locked(false)
    let result = try await withRun(place, build: "debug") { run in
        place.clock.onAdvance {
            // Once, in the midst of the samples.
            guard place.clock.nowNs > 5_500_000_000 else { return }
            let isDue = noted.with { wasNoted in
                defer { wasNoted = true }
                return !wasNoted
            }
            if isDue { run.note(.backgrounded) }
        }
    } reading: { time in
        EnvironmentReading(
            thermal: time < 3 ? .nominal : time < 6 ? .fair : .serious, lowPower: time >= 5, footprint: Int(time * 100),
            available: 10_000 - Int(time * 100))
    }
    let measured = result.cases[0]
    #expect(measured.validity.throttled)
    #expect(measured.validity.lowPower)
    #expect(measured.validity.debugBuild)
    #expect(measured.validity.backgrounded)
    #expect(
        measured.validity.circumstances == [
            Circumstance(.throttled, detail: "serious"), Circumstance(.lowPower), Circumstance(.backgrounded),
            Circumstance(.debugBuild),
        ])
    #expect(measured.validity.reasons.isEmpty)
    #expect(measured.environment?.events.map(\.kind) == [.thermal, .backgrounded, .lowPower, .thermal])
    #expect(measured.environment?.events.map(\.value) == ["fair", nil, "on", "serious"])
    #expect(measured.timeToFairS.map { abs($0 - 3) < 0.6 } == true)
    #expect(measured.timeToSeriousS.map { abs($0 - 6) < 0.6 } == true)
    let series = try #require(measured.environment?.series)
    #expect(zip(series, series.dropFirst()).allSatisfy { $1.tS - $0.tS >= 0.99 })
    #expect(series.count >= 9)
    #expect(measured.memory?.footprintBefore == 0)
    #expect(measured.memory?.footprintPeak == measured.memory?.footprintAfter)
    #expect(measured.memory?.availableMin == 10_000 - (measured.memory?.footprintAfter ?? 0))
    #expect(measured.environment?.start.thermal == .nominal)
    #expect(measured.environment?.end.thermal == .serious)
}

private func withRun(
    _ place: Workplace, build: String, prepare: (BenchRun) -> Void,
    reading: @escaping @Sendable (Double) -> EnvironmentReading
) async throws -> BenchResult {
    try await place.run(reading: reading, build: build, prepare: prepare)
}

@Test func parityOutputsAreWrittenPerCase() async throws {
    let place = try Workplace()
    try place.push {
        $0.collect.parityOutputs = true
        $0.collect.parityInputs = [
            ParityInput(stage: .decoder, feed: ["point_coords": "inputs/a.npy"], outputsDir: "first")
        ]
    }
    let outputs = try #require(try await place.run().cases[0].parityOutputs)
    #expect(outputs.map(\.file) == ["outputs/cpu_only_all_n1/first/masks.npy"])
    // SHA-256 of "abc", from the standard.
    #expect(outputs[0].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(try Data(contentsOf: place.folders.output.appending(path: outputs[0].file)) == Data("abc".utf8))
}

// MARK: Refusals

@Test func damagedModelsAreRefused() async throws {
    let place = try Workplace()
    try Data("other".utf8).write(to: place.folders.input.appending(path: "models/decoder.mlpackage/model.bin"))
    let failure = try await refusal(of: place)
    #expect(failure.code == "sha256")
    #expect(BenchExit(failure) == .badRequest)
}

@Test func linksOutOfTheFolderAreRefused() async throws {
    let place = try Workplace()
    try FileManager.default.createSymbolicLink(
        at: place.folders.input.appending(path: "models/away"), withDestinationURL: URL(filePath: "/etc"))
    try place.push { $0.models[0].relativePath = "models/away" }
    #expect(try await refusal(of: place).message.contains("goes through a link"))
}

@Test func anotherRunsRequestIsRefused() async throws {
    let place = try Workplace()
    try place.push { $0.runId = "00000000-4a59-4687-9c10-1234567890ab" }
    #expect(try await refusal(of: place).message.contains("lies in the folder of run"))
}

@Test func brokenRequestsLeaveAStatus() async throws {
    let place = try Workplace()
    try Data("{\"protocol_version\": 7, \"nonce\": \"00112233445566778899aabbccddeeff\"}".utf8)
        .write(to: place.folders.request)
    #expect(try await refusal(of: place).code == "protocol_version")
    #expect(try place.status().nonce == "00112233445566778899aabbccddeeff")
    try Data("garbage".utf8).write(to: place.folders.request)
    #expect(try await refusal(of: place).code == "not_json")
    #expect(try place.status().nonce == RunIdentifier.unknownNonce)
}

@Test func aFullDiskFailsTheRunWithAStatus() async throws {
    let place = try Workplace(store: WatchedStore(failing: "result.json"))
    let failure = try await refusal(of: place)
    #expect(BenchExit(failure) == .failed)
    #expect(!FileManager.default.fileExists(atPath: place.folders.result.path))
    #expect(FileManager.default.fileExists(atPath: place.folders.partial.path))
}

private func refusal(of place: Workplace) async throws -> BenchFailure {
    let error = await #expect(throws: BenchFailure.self) { try await place.run() }
    let failure = try #require(error)
    #expect(try place.status().phase == .failed)
    #expect(try place.status().error == failure)
    return failure
}
