import EdgeSAMBenchCore
import EdgeSAMDigest
import FixtureSupport
import Foundation
import Testing

/// The executable as the host's driver starts it.
@Suite(.serialized) struct HostTests {
    struct Ended {
        var code: Int32
        var error: String
    }

    @Test func aRunEndsWithZeroAndAResult() throws {
        let tiny = try TinyRun()
        let ended = try run(["--documents", tiny.documents.path, "--compiled-models", tiny.compiledModels.path])
        #expect(ended.code == 0, "\(ended.error)")
        #expect(
            ended.error.split(separator: "\n") == [
                "received", "case 1/1 compiling", "case 1/1 waiting_thermal", "case 1/1 loading", "case 1/1 warming",
                "case 1/1 running", "case 1/1 warming", "case 1/1 running", "case 1/1 writing", "done",
                "1 of 1 cases measured",
            ])
        let (status, document) = (try tiny.status(), try Data(contentsOf: tiny.folders.result))
        #expect(status.phase == .done)
        #expect(status.nonce == TinyRun.nonce)
        #expect(status.result?.bytes == document.count)
        #expect(status.result?.sha256 == SHA256.hexDigest(of: document))
        // Nothing is left to do.
        let again = try run(["--documents", tiny.documents.path])
        #expect(again.code == 2)
        #expect(again.error.contains("no run without a result"))
    }

    @Test func aBadRequestEndsWithTwoAndAStatus() throws {
        let tiny = try TinyRun { $0.models[0].sha256Tree = String(repeating: "0", count: 64) }
        let ended = try run(["--documents", tiny.documents.path], environment: ["EDGESAM_BENCH_RUN_ID": TinyRun.runID])
        #expect(ended.code == 2)
        #expect(try tiny.status().phase == .failed)
        #expect(try tiny.status().error?.code == "sha256")
    }

    @Test(arguments: [
        [], ["--documents"], ["--what"], ["--documents", "/tmp", "--mode", "fly"],
        ["--documents", "/tmp", "--run-id", "../../etc"], ["--documents", "/nonexistent-folder"],
    ])
    func wrongUsageEndsWithTwo(arguments: [String]) throws {
        #expect(try run(arguments).code == 2)
    }

    @Test func preparingOnlyMakesTheFolder() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "prepare-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(try run(["--documents", folder.path, "--mode", "prepare"]).code == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }

    @Test func terminationKeepsFinishedCasesAndEndsWithSix() async throws {
        let tiny = try TinyRun {
            $0.workload.stages = [.encoder]
            $0.matrix.append(
                MatrixRow(computeUnits: UnitsPerRole(encoder: .all, decoder: .all), hints: nil))
            // The second case waits here until the signal comes.
            $0.schedule.cooldownS = 600
        }
        let process = try start(["--documents", tiny.documents.path, "--compiled-models", tiny.compiledModels.path])
        while process.isRunning, (try? tiny.status().phase) != .cooling {
            try await Task.sleep(for: .milliseconds(50))
        }
        process.terminate()
        process.waitUntilExit()
        #expect(process.terminationStatus == 6)
        #expect(process.terminationReason == .exit)
        let status = try tiny.status()
        #expect(status.phase == .failed)
        #expect(status.error?.code == "interrupted")
        let partial = try Data(contentsOf: tiny.folders.partial)
        #expect(try BenchJSON.decode(CaseResult.self, from: partial).outcome == .passed)
        #expect(!FileManager.default.fileExists(atPath: tiny.folders.result.path))
    }

    // MARK: Processes

    private func start(
        _ arguments: [String], environment: [String: String] = [:], error: Pipe? = nil
    ) throws -> Process {
        let process = Process()
        process.executableURL = try executable()
        process.arguments = arguments
        var all = ProcessInfo.processInfo.environment
        all["EDGESAM_PYTHON"] = Fixtures.python.path
        process.environment = all.merging(environment) { $1 }
        process.standardOutput = FileHandle.nullDevice
        process.standardError = error ?? FileHandle.nullDevice
        try process.run()
        return process
    }

    private func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Ended {
        let pipe = Pipe()
        let process = try start(arguments, environment: environment, error: pipe)
        let text = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return Ended(code: process.terminationStatus, error: String(decoding: text, as: UTF8.self))
    }

    /// Beside the bundle of the tests, where the package manager builds everything.
    private func executable() throws -> URL {
        var folder = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
        for _ in 0..<5 {
            let candidate = folder.appending(path: "edgesam-bench-host")
            if FileManager.default.isExecutableFile(atPath: candidate.path) { return candidate }
            folder.deleteLastPathComponent()
        }
        throw Fixtures.Failure(description: "edgesam-bench-host is not beside \(CommandLine.arguments[0])")
    }
}
