/// An array or an image; numbers, strings and dictionaries are left out.
///
/// Stand-in for <https://developer.apple.com/documentation/coreml/mlfeaturevalue>.
public class MLFeatureValue: NSObject {
    /// <https://developer.apple.com/documentation/coreml/mlfeaturevalue/multiarrayvalue>
    public let multiArrayValue: MLMultiArray?
    /// <https://developer.apple.com/documentation/coreml/mlfeaturevalue/imagebuffervalue>
    public let imageBufferValue: CVPixelBuffer?
    /// <https://developer.apple.com/documentation/coreml/mlfeaturevalue/type>
    public let type: MLFeatureType

    /// <https://developer.apple.com/documentation/coreml/mlfeaturevalue/init(multiarray:)>
    public init(multiArray value: MLMultiArray) {
        multiArrayValue = value
        imageBufferValue = nil
        type = .multiArray
    }

    /// <https://developer.apple.com/documentation/coreml/mlfeaturevalue/init(pixelbuffer:)>
    public init(pixelBuffer value: CVPixelBuffer) {
        multiArrayValue = nil
        imageBufferValue = value
        type = .image
    }

    /// <https://developer.apple.com/documentation/coreml/mlfeaturevalue/isundefined>
    public var isUndefined: Bool { false }
}
