/// Exit codes of the executable, also the words for a run's end.
public enum BenchExit: Int32, Sendable {
    case done = 0
    case badRequest = 2
    case failed = 6

    /// What a failure that ended a run means.
    public init(_ failure: BenchFailure) {
        self = failure.stage == BenchPhase.received.rawValue ? .badRequest : .failed
    }
}
