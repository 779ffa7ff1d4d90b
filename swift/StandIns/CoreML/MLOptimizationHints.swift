/// Kept and passed back; the executor has nothing to specialise.
///
/// Stand-in for <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct>.
public struct MLOptimizationHints: Equatable, Sendable {
    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/reshapefrequency-swift.enum>
    public enum ReshapeFrequency: Int, Sendable {
        case frequent
        case infrequent
    }

    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/specializationstrategy-swift.enum>
    public enum SpecializationStrategy: Int, Sendable {
        case `default`
        case fastPrediction
    }

    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/reshapefrequency-swift.property>
    public var reshapeFrequency = ReshapeFrequency.frequent
    /// <https://developer.apple.com/documentation/coreml/mloptimizationhints-swift.struct/specializationstrategy-swift.property>
    public var specializationStrategy = SpecializationStrategy.default

    public init() {}
}
