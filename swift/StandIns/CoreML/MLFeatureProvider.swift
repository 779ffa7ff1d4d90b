/// Stand-in for <https://developer.apple.com/documentation/coreml/mlfeatureprovider>.
public protocol MLFeatureProvider: AnyObject {
    /// <https://developer.apple.com/documentation/coreml/mlfeatureprovider/featurenames>
    var featureNames: Set<String> { get }

    /// <https://developer.apple.com/documentation/coreml/mlfeatureprovider/featurevalue(for:)>
    func featureValue(for featureName: String) -> MLFeatureValue?
}
