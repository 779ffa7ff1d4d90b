import EdgeSAMBenchCore
import EdgeSAMBenchRuntime
import Foundation

/// Runs one pushed run and says how it went.
enum Host {
    static func run(_ command: HostCommand, _ session: BenchSession) async -> BenchExit {
        do {
            if command.preparesOnly {
                try session.prepare()
                return .done
            }
            guard let id = try session.pendingRun() else {
                Progress.say("edgesam-bench-host: no run without a result in '\(command.documents.path)'")
                return .badRequest
            }
            let progress = Progress()
            let result = try await session.run(id) { status, _ in progress.show(status) }
            let failed = result.cases.filter { $0.outcome != .passed }
            for measured in failed {
                Progress.say("case \(measured.id): \(measured.outcome.rawValue): \(measured.error?.message ?? "")")
            }
            Progress.say("\(result.cases.count - failed.count) of \(result.cases.count) cases measured")
            return .done
        } catch {
            let failure = BenchFailure.wrapping(error, stage: BenchPhase.received.rawValue)
            Progress.say("edgesam-bench-host: \(failure.message)" + (failure.hint.map { "; \($0)" } ?? ""))
            return BenchExit(failure)
        }
    }
}
