/// When a stage is warm: the asked-for predictions are done and two windows of equal length in a row agree.
///
/// A window is half the warm-up.  Agreement is tested on sums, to decide when to start, and never reported.
struct WarmupRule: Sendable {
    static let tolerance = 0.05
    /// Times the warm-up that was asked for, after which timing starts without agreement.
    static let capFactor = 5

    let iterations: Int
    let window: Int
    let cap: Int

    init(iterations: Int) {
        self.iterations = iterations
        window = max(1, iterations / 2)
        cap = iterations * Self.capFactor
    }

    enum Verdict: Equatable { case again, warm, unsteady }

    func verdict(on samples: [UInt64]) -> Verdict {
        if iterations == 0 { return .warm }
        if samples.count < max(iterations, 2 * window) { return samples.count >= cap ? .unsteady : .again }
        // Windows lie end to end from the first prediction that was asked for beyond the minimum.
        guard (samples.count - iterations) % window == 0 else { return samples.count >= cap ? .unsteady : .again }
        let late = Double(samples.suffix(window).reduce(0, +))
        let early = Double(samples.dropLast(window).suffix(window).reduce(0, +))
        if abs(late - early) <= Self.tolerance * max(late, early) { return .warm }
        return samples.count >= cap ? .unsteady : .again
    }
}
