/// Stand-in for <https://developer.apple.com/documentation/coreml/mlfeaturedescription>.
public class MLFeatureDescription: NSObject {
    /// <https://developer.apple.com/documentation/coreml/mlfeaturedescription/name>
    public let name: String
    /// <https://developer.apple.com/documentation/coreml/mlfeaturedescription/type>
    public let type: MLFeatureType
    /// <https://developer.apple.com/documentation/coreml/mlfeaturedescription/isoptional>
    public let isOptional: Bool
    /// <https://developer.apple.com/documentation/coreml/mlfeaturedescription/multiarrayconstraint>
    public let multiArrayConstraint: MLMultiArrayConstraint?
    /// <https://developer.apple.com/documentation/coreml/mlfeaturedescription/imageconstraint>
    public let imageConstraint: MLImageConstraint?

    init(
        name: String, type: MLFeatureType, isOptional: Bool, multiArrayConstraint: MLMultiArrayConstraint? = nil,
        imageConstraint: MLImageConstraint? = nil
    ) {
        self.name = name
        self.type = type
        self.isOptional = isOptional
        self.multiArrayConstraint = multiArrayConstraint
        self.imageConstraint = imageConstraint
    }
}
