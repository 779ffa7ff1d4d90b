/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmodelmetadatakey>.
public struct MLModelMetadataKey: RawRepresentable, Hashable, Sendable {
    public let rawValue: String

    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    /// <https://developer.apple.com/documentation/coreml/mlmodelmetadatakey/description>
    public static let description = MLModelMetadataKey(rawValue: "MLModelDescriptionKey")
    /// <https://developer.apple.com/documentation/coreml/mlmodelmetadatakey/author>
    public static let author = MLModelMetadataKey(rawValue: "MLModelAuthorKey")
    /// <https://developer.apple.com/documentation/coreml/mlmodelmetadatakey/license>
    public static let license = MLModelMetadataKey(rawValue: "MLModelLicenseKey")
    /// <https://developer.apple.com/documentation/coreml/mlmodelmetadatakey/versionstring>
    public static let versionString = MLModelMetadataKey(rawValue: "MLModelVersionStringKey")
    /// A dictionary of strings: the keys that the package's author made up.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmodelmetadatakey/creatordefinedkey>
    public static let creatorDefinedKey = MLModelMetadataKey(rawValue: "MLModelCreatorDefinedKey")
}
