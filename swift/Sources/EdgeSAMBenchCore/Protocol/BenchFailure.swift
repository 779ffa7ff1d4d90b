import Foundation

/// Something went wrong: what, where, which values, what to do.  Written into documents as it is.
public struct BenchFailure: Error, Codable, Sendable, Equatable, LocalizedError {
    /// The phase, stage or document in which it happened.
    public var stage: String
    /// Stable word or number that programs may compare.
    public var code: String
    public var domain: String
    public var message: String
    public var hint: String?

    /// Domain of errors that the benchmark finds itself.
    public static let ownDomain = "edgesam.bench"

    public init(
        stage: String, code: String, domain: String = BenchFailure.ownDomain, message: String, hint: String? = nil
    ) {
        self.stage = stage
        self.code = code
        self.domain = domain
        self.message = message
        self.hint = hint
    }

    public var errorDescription: String? { message }

    /// The failure that stands for any error thrown during `stage`.
    public static func wrapping(_ error: any Error, stage: String) -> BenchFailure {
        if let failure = error as? BenchFailure { return failure }
        if error is CancellationError {
            return BenchFailure(stage: stage, code: "interrupted", message: "the run was interrupted")
        }
        let cocoa = error as NSError
        let message = (error as? any LocalizedError)?.errorDescription ?? cocoa.localizedDescription
        return BenchFailure(stage: stage, code: String(cocoa.code), domain: cocoa.domain, message: message)
    }
}
