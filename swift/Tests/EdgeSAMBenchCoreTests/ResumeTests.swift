import Foundation
import Testing

@testable import EdgeSAMBenchCore

private func threeCases() throws -> Workplace {
    let place = try Workplace()
    try pushThreeCases(to: place)
    return place
}

private func pushThreeCases(to place: Workplace) throws {
    try place.push { $0.workload.nPoints = [1, 2, 3] }
}

/// Makes a finished run one that was ended after `count` cases: nothing pushed has been removed then.
private func keep(_ count: Int, of place: Workplace, torn: String = "") throws {
    let text = String(decoding: try Data(contentsOf: place.folders.partial), as: UTF8.self)
    let lines = text.split(separator: "\n").prefix(count).map { $0 + "\n" }
    try Data((lines.joined() + torn).utf8).write(to: place.folders.partial)
    try FileManager.default.removeItem(at: place.folders.result)
    try pushThreeCases(to: place)
}

@Test func finishedCasesAreNotRunAgain() async throws {
    let place = try threeCases()
    let whole = try await place.run()
    try keep(2, of: place, torn: "{\"id\": \"cpu_only/all/n3\", \"outc")
    let runner = FakeRunner(clock: place.clock)
    let resumed = try await place.run(runner)
    let predictions = await runner.log.filter { $0.hasPrefix("predict") }
    #expect(!predictions.isEmpty)
    #expect(predictions.allSatisfy { $0.hasSuffix("n3") })
    #expect(resumed.cases.map(\.id) == ["cpu_only/all/n1", "cpu_only/all/n2", "cpu_only/all/n3"])
    #expect(resumed.cases.prefix(2) == whole.cases.prefix(2))
    let lines = try Data(contentsOf: place.folders.partial).split(separator: UInt8(ascii: "\n"))
    #expect(try lines.map { try BenchJSON.decode(CaseResult.self, from: Data($0)).id } == resumed.cases.map(\.id))
}

@Test func seqRisesOverARestart() async throws {
    let place = try threeCases()
    _ = try await place.run()
    let before = try place.status().seq
    try keep(1, of: place)
    place.statuses.with { $0 = [] }
    _ = try await place.run()
    #expect(place.statuses.with { $0.allSatisfy { $0.seq > before } })
}

@Test func theCaseThatEndedTheProcessIsKeptAsCrashed() async throws {
    let place = try threeCases()
    _ = try await place.run()
    try keep(1, of: place)
    var status = try place.status()
    (status.phase, status.caseIndex, status.iteration, status.result) = (.running, 1, 17, nil)
    try BenchJSON.document(status).write(to: place.folders.status)
    let resumed = try await place.run()
    #expect(resumed.cases.map(\.outcome) == [.passed, .crashed, .passed])
    #expect(resumed.cases[1].error?.stage == "running")
    #expect(resumed.cases[1].error?.message.contains("17 predictions") == true)
}

@Test func anInterruptedCaseRunsAgain() async throws {
    let place = try threeCases()
    let runner = FakeRunner(clock: place.clock)
    let count = Locked(0)
    let attempt = Task {
        try await place.run(
            runner,
            prepare: { run in
                place.clock.onAdvance {
                    // In the midst of the second case, as a signal's handler does; then the process would exit.
                    let calls = count.with { calls in
                        calls += 1
                        return calls
                    }
                    if calls == 45 {
                        run.interrupt()
                        withUnsafeCurrentTask { $0?.cancel() }
                    }
                }
            })
    }
    await #expect(throws: (any Error).self) { try await attempt.value }
    let status = try place.status()
    #expect(status.phase == .failed)
    #expect(status.error?.code == "interrupted")
    #expect(!FileManager.default.fileExists(atPath: place.folders.result.path))
    let resumed = try await place.run()
    #expect(resumed.cases.map(\.outcome) == [.passed, .passed, .passed])
}

@Test func theNewestRunWithoutAResultIsTakenUp() throws {
    let documents = FileManager.default.temporaryDirectory.appending(path: "pick-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: documents) }
    let ids = (1...4).map { "0000000\($0)-0000-0000-0000-000000000000" }
    for (age, id) in [(40.0, ids[0]), (10, ids[1]), (20, ids[2]), (30, ids[3])] {
        let folders = RunFolders(documents: documents, runID: id)
        try FileManager.default.createDirectory(at: folders.input, withIntermediateDirectories: true)
        try Data("{}".utf8).write(to: folders.request)
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: folders.request.path)
    }
    let store = DiskFileStore()
    func answer(_ id: String, file: String) throws {
        let folders = RunFolders(documents: documents, runID: id)
        try FileManager.default.createDirectory(at: folders.output, withIntermediateDirectories: true)
        try Data("{}".utf8).write(to: folders.output.appending(path: file))
    }
    #expect(try RunFolders.pending(in: documents, runID: nil, store: store)?.runID == ids[1])
    try answer(ids[1], file: "result.json")
    #expect(try RunFolders.pending(in: documents, runID: nil, store: store)?.runID == ids[2])
    try answer(ids[2], file: "status.json")
    #expect(try RunFolders.pending(in: documents, runID: nil, store: store)?.runID == ids[2])
    #expect(try RunFolders.pending(in: documents, runID: ids[0], store: store)?.runID == ids[0])
    #expect(throws: BenchFailure.self) { try RunFolders.pending(in: documents, runID: "../x", store: store) }
    #expect(throws: BenchFailure.self) {
        try RunFolders.pending(
            in: documents, runID: "99999999-0000-0000-0000-000000000000", store: store)
    }
}

@Test func aFileStandsCompleteOrNotAtAll() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "atomic-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    let (store, file) = (DiskFileStore(), folder.appending(path: "status.json"))
    try store.createFolder(folder)
    try store.writeAtomically(Data("first".utf8), to: file)
    let reader = try FileHandle(forReadingFrom: file)
    try store.writeAtomically(Data("second, longer".utf8), to: file)
    // Who opened the old file still reads all of it: it was replaced, not overwritten.
    #expect(try reader.readToEnd() == Data("first".utf8))
    #expect(try store.read(file, limit: 100) == Data("second, longer".utf8))
    #expect(try store.entries(of: folder).map(\.name) == ["status.json"])
    #expect(throws: BenchFailure.self) { try store.read(file, limit: 5) }
}

@Test func whatWasPushedIsRemovedOnceTheRunIsDone() async throws {
    let place = try Workplace()
    let files = FileManager.default
    let answered = RunFolders(documents: place.documents, runID: "00000000-0000-0000-0000-00000000000a")
    let waiting = RunFolders(documents: place.documents, runID: "00000000-0000-0000-0000-00000000000b")
    let foreign = place.documents.appending(path: "edgesam-in-notes")
    for folder in [answered.input, answered.output, waiting.input, foreign] {
        try files.createDirectory(at: folder, withIntermediateDirectories: true)
    }
    // Ended between its result and the removal of what had been pushed.
    try Data("{}".utf8).write(to: answered.result)
    _ = try await place.run()
    #expect(try place.status().phase == .done)
    #expect(!files.fileExists(atPath: place.folders.input.path))
    #expect(!files.fileExists(atPath: answered.input.path))
    #expect(files.fileExists(atPath: place.folders.result.path))
    #expect(files.fileExists(atPath: waiting.input.path))
    #expect(files.fileExists(atPath: foreign.path))
}

@Test func aFailedRunKeepsWhatWasPushed() async throws {
    let place = try Workplace(store: WatchedStore(failing: "result.json"))
    await #expect(throws: BenchFailure.self) { try await place.run() }
    #expect(FileManager.default.fileExists(atPath: place.folders.request.path))
}

@Test func aFolderThatCannotBeRemovedDoesNotFailTheRun() async throws {
    let place = try Workplace(store: WatchedStore(failing: "edgesam-in-\(Workplace.runID)"))
    _ = try await place.run()
    #expect(try place.status().phase == .done)
    #expect(FileManager.default.fileExists(atPath: place.folders.request.path))
}
