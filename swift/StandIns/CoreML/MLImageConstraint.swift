/// Stand-in for <https://developer.apple.com/documentation/coreml/mlimageconstraint>.
public class MLImageConstraint: NSObject {
    /// <https://developer.apple.com/documentation/coreml/mlimageconstraint/pixelswide>
    public let pixelsWide: Int
    /// <https://developer.apple.com/documentation/coreml/mlimageconstraint/pixelshigh>
    public let pixelsHigh: Int
    /// <https://developer.apple.com/documentation/coreml/mlimageconstraint/pixelformattype>
    public let pixelFormatType: OSType

    init(pixelsWide: Int, pixelsHigh: Int, pixelFormatType: OSType) {
        self.pixelsWide = pixelsWide
        self.pixelsHigh = pixelsHigh
        self.pixelFormatType = pixelFormatType
    }
}
