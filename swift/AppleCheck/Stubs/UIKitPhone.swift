// The part of UIKit that only the demo uses, beside UIKit.swift.

/// <https://developer.apple.com/documentation/uikit/uiviewcontroller>
@MainActor open class UIViewController: NSObject {}
@MainActor open class UINavigationController: UIViewController {}
/// <https://developer.apple.com/documentation/uikit/uinavigationcontrollerdelegate>
@MainActor public protocol UINavigationControllerDelegate: NSObjectProtocol {}
/// <https://developer.apple.com/documentation/uikit/uiimagepickercontrollerdelegate>
@MainActor public protocol UIImagePickerControllerDelegate: NSObjectProtocol {
    func imagePickerController(
        _ picker: UIImagePickerController, didFinishPickingMediaWithInfo info: [UIImagePickerController.InfoKey: Any])
    func imagePickerControllerDidCancel(_ picker: UIImagePickerController)
}
/// <https://developer.apple.com/documentation/uikit/uiimagepickercontroller>
@MainActor public final class UIImagePickerController: UINavigationController {
    public enum SourceType: Int, Sendable { case photoLibrary, camera, savedPhotosAlbum }
    public struct InfoKey: Hashable, Sendable { public static let originalImage = InfoKey() }
    public class func isSourceTypeAvailable(_ sourceType: SourceType) -> Bool { false }
    public var sourceType: SourceType {
        get { .camera }
        set {}
    }
    public var delegate: (any UIImagePickerControllerDelegate & UINavigationControllerDelegate)? {
        get { nil }
        set {}
    }
}
extension UIImage {
    /// <https://developer.apple.com/documentation/uikit/uiimage/jpegdata(compressionquality:)>
    public func jpegData(compressionQuality: CGFloat) -> Data? { nil }
}
