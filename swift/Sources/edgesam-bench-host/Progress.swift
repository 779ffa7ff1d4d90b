import EdgeSAMBenchCore
import Foundation

/// One line on standard error for each phase.
final class Progress: @unchecked Sendable {  // `last` is only used under `lock`
    private let lock = NSLock()
    private var last: String?

    /// Says where the run is, if that changed.
    func show(_ status: BenchStatus) {
        var line = status.phase.rawValue
        if let index = status.caseIndex, let count = status.caseCount { line = "case \(index + 1)/\(count) \(line)" }
        let isNew = lock.withLock {
            defer { last = line }
            return last != line
        }
        if isNew { Self.say(line) }
    }

    static func say(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }
}
