/// Kept and passed back; the executor has nothing to specialise.
///
/// Stand-in for <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct>.
@available(iOS 17.4, macOS 14.4, visionOS 1.1, *)
public struct MLOptimizationHints: Equatable, Sendable {
    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/reshapefrequency-swift.enum>
    public enum ReshapeFrequency: Int, Sendable {
        case frequent
        case infrequent
    }

    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/specializationstrategy-swift.enum>
    @available(iOS 18.0, macOS 15.0, visionOS 2.0, *)
    public enum SpecializationStrategy: Int, Sendable {
        case `default`
        case fastPrediction
    }

    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/reshapefrequency-swift.property>
    public var reshapeFrequency = ReshapeFrequency.frequent
    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/specializationstrategy-swift.property>
    @available(iOS 18.0, macOS 15.0, visionOS 2.0, *)
    public var specializationStrategy = SpecializationStrategy.default

    public init() {}
}
