/// Something that speaks against the samples of a case.  A code and no words: the host has those.
public struct Circumstance: Codable, Sendable, Equatable {
    /// What it is.
    public enum Code: String, Codable, Sendable, CaseIterable {
        case unsteadyWarmup = "unsteady_warmup"
        case throttled
        case lowPower = "low_power"
        case backgrounded
        case debugBuild = "debug_build"
        case debuggerAttached = "debugger_attached"
        case fewIterations = "few_iterations"
        case shortDuration = "short_duration"
    }

    public var code: Code
    /// The thermal state that was reached, or the stage whose warm-up was not steady.
    public var detail: String?

    public init(_ code: Code, detail: String? = nil) {
        self.code = code
        self.detail = detail
    }

    /// The code with its detail, for a screen.
    public var title: String {
        let name = code.rawValue.replacing("_", with: " ")
        return detail.map { "\(name): \($0)" } ?? name
    }
}
