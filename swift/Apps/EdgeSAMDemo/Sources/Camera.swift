import SwiftUI
import UIKit

/// The system's camera, for one frame.
struct Camera: UIViewControllerRepresentable {
    /// Whether this device has one; the simulator has none.
    static var isAvailable: Bool { UIImagePickerController.isSourceTypeAvailable(.camera) }

    /// Called once, with the photo as JPEG, or nil where none was taken.
    let onEnd: @MainActor (Data?) -> Void

    func makeCoordinator() -> Coordinator { Coordinator(onEnd: onEnd) }

    func makeUIViewController(context: Context) -> UIImagePickerController {
        let picker = UIImagePickerController()
        picker.sourceType = .camera
        picker.delegate = context.coordinator
        return picker
    }

    func updateUIViewController(_ picker: UIImagePickerController, context: Context) {}

    final class Coordinator: NSObject, UIImagePickerControllerDelegate, UINavigationControllerDelegate {
        private let onEnd: @MainActor (Data?) -> Void

        init(onEnd: @escaping @MainActor (Data?) -> Void) {
            self.onEnd = onEnd
        }

        func imagePickerController(
            _ picker: UIImagePickerController,
            didFinishPickingMediaWithInfo info: [UIImagePickerController.InfoKey: Any]
        ) {
            // JPEG keeps the orientation, which the reading of files applies.
            onEnd((info[.originalImage] as? UIImage)?.jpegData(compressionQuality: 0.95))
        }

        func imagePickerControllerDidCancel(_ picker: UIImagePickerController) { onEnd(nil) }
    }
}
