/// Stand-in for <https://developer.apple.com/documentation/coreml/mldictionaryfeatureprovider>.
public class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    /// <https://developer.apple.com/documentation/coreml/mldictionaryfeatureprovider/dictionary>
    public let dictionary: [String: MLFeatureValue]

    /// Takes feature values, arrays and pixel buffers.
    ///
    /// <https://developer.apple.com/documentation/coreml/mldictionaryfeatureprovider/init(dictionary:)>
    public init(dictionary: [String: Any]) throws {
        self.dictionary = try Dictionary(
            uniqueKeysWithValues: dictionary.map { name, value in
                switch value {
                case let value as MLFeatureValue: (name, value)
                case let array as MLMultiArray: (name, MLFeatureValue(multiArray: array))
                case let image as CVPixelBuffer: (name, MLFeatureValue(pixelBuffer: image))
                default:
                    throw MLModelError(
                        .featureType,
                        message: "feature '\(name)' is a \(Swift.type(of: value)); expected MLFeatureValue, "
                            + "MLMultiArray or CVPixelBuffer")
                }
            })
    }

    /// <https://developer.apple.com/documentation/coreml/mldictionaryfeatureprovider/featurenames>
    public var featureNames: Set<String> { Set(dictionary.keys) }

    /// <https://developer.apple.com/documentation/coreml/mldictionaryfeatureprovider/featurevalue(for:)>
    public func featureValue(for featureName: String) -> MLFeatureValue? {
        dictionary[featureName]
    }

    /// <https://developer.apple.com/documentation/coreml/mldictionaryfeatureprovider/subscript(_:)>
    public subscript(featureName: String) -> MLFeatureValue? { dictionary[featureName] }
}
