import Foundation

/// Calls something again and again until it is stopped.
public protocol HeartbeatSource: Sendable {
    /// Starts; the closure that is returned stops it.
    func start(intervalS: Double, beat: @escaping @Sendable () -> Void) -> @Sendable () -> Void
}

/// A thread of its own: loading a model may block every thread of Swift's pool for minutes.
public struct ThreadHeartbeat: HeartbeatSource {
    public init() {}

    public func start(intervalS: Double, beat: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let isStopped = Locked(false)
        let thread = Thread {
            while !isStopped.with({ $0 }) {
                beat()
                Thread.sleep(forTimeInterval: intervalS)
            }
        }
        thread.name = "edgesam-bench heartbeat"
        thread.qualityOfService = .utility
        thread.start()
        return { isStopped.with { $0 = true } }
    }
}
