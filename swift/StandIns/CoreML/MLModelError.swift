/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmodelerrordomain>.
// swift-format-ignore: AlwaysUseLowerCamelCase
public let MLModelErrorDomain = "com.apple.CoreML"

/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmodelerror-swift.struct>.
public struct MLModelError: CustomNSError, LocalizedError {
    /// <https://developer.apple.com/documentation/coreml/mlmodelerror-swift.struct/code>
    public enum Code: Int, Sendable {
        case generic = 0
        case featureType = 1
        case io = 3
        case customLayer = 4
        case customModel = 5
        case update = 6
        case parameters = 7
        case modelDecryptionKeyFetch = 8
        case modelDecryption = 9
        case modelCollection = 10
        case predictionCancelled = 11
    }

    public static var errorDomain: String { MLModelErrorDomain }

    public let code: Code
    private let message: String
    private let reason: String?

    /// <https://developer.apple.com/documentation/coreml/mlmodelerror-swift.struct/init(_:userinfo:)>
    public init(_ code: Code, userInfo: [String: Any] = [:]) {
        self.init(
            code, message: userInfo[NSLocalizedDescriptionKey] as? String ?? "\(MLModelErrorDomain) \(code.rawValue)",
            reason: userInfo[NSLocalizedFailureReasonErrorKey] as? String)
    }

    init(_ code: Code, message: String, reason: String? = nil) {
        self.code = code
        self.message = message
        self.reason = reason.flatMap { $0.isEmpty ? nil : $0 }
    }

    public var errorCode: Int { code.rawValue }
    public var errorUserInfo: [String: Any] { userInfo }
    public var errorDescription: String? { message }
    /// The last 4096 bytes of what the Python process wrote to standard error, when it ended.
    public var failureReason: String? { reason }

    public var userInfo: [String: Any] {
        var info: [String: Any] = [NSLocalizedDescriptionKey: message]
        if let reason { info[NSLocalizedFailureReasonErrorKey] = reason }
        return info
    }
}
