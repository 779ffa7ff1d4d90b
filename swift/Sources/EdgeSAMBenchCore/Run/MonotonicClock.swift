import Foundation

/// Time that never goes back, and waiting; a test's clock waits without time passing.
public protocol MonotonicClock: Sendable {
    /// Nanoseconds since some fixed moment.
    var nowNs: UInt64 { get }
    /// The calendar's time, for documents only.
    var date: Date { get }
    func sleep(seconds: Double) async throws
}

extension MonotonicClock {
    /// Seconds since `startNs`.
    func seconds(since startNs: UInt64) -> Double { Double(nowNs - startNs) / 1e9 }

    /// Milliseconds that `body` takes.
    func milliseconds(_ body: () async throws -> Void) async rethrows -> Double {
        let start = nowNs
        try await body()
        return Double(nowNs - start) / 1e6
    }
}

/// The system's clock.
public struct SystemMonotonicClock: MonotonicClock {
    private let origin = ContinuousClock.now

    public init() {}

    public var nowNs: UInt64 {
        let (seconds, attoseconds) = (ContinuousClock.now - origin).components
        return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }

    public var date: Date { Date() }

    public func sleep(seconds: Double) async throws { try await Task.sleep(for: .seconds(seconds)) }
}
