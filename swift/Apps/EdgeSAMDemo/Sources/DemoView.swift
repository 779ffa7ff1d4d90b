import EdgeSAM
import EdgeSAMUI
import PhotosUI
import SwiftUI

/// The one screen: a photo to select on, and what was selected to share.
struct DemoView: View {
    let model: SegmentationModel
    @State private var item: PhotosPickerItem?
    @State private var isCameraShown = false

    var body: some View {
        NavigationStack {
            SegmentationView(model)
                .navigationTitle("EdgeSAM")
                .toolbar {
                    ToolbarItemGroup {
                        PhotosPicker(selection: $item, matching: .images) {
                            Label("Choose a photo", systemImage: "photo")
                        }
                        Button("Take a photo", systemImage: "camera") { isCameraShown = true }
                            .disabled(!Camera.isAvailable)
                        if let image = model.state.image, let mask = model.state.mask {
                            let cutOut = CutOut(image: image, mask: mask)
                            ShareLink(item: cutOut, preview: SharePreview("Cut-out")) {
                                Label("Share the cut-out", systemImage: "square.and.arrow.up")
                            }
                        }
                    }
                }
        }
        .onChange(of: item) { _, item in
            guard let item else { return }
            Task { await show { try await item.loadTransferable(type: Data.self) } }
        }
        .fullScreenCover(isPresented: $isCameraShown) {
            Camera { data in
                isCameraShown = false
                if let data { Task { await show { data } } }
            }
        }
    }

    /// Shows what `load` brings; where it brings nothing that is an image, the one before stays.
    private func show(_ load: @Sendable () async throws -> Data?) async {
        do {
            guard let data = try await load() else { throw EdgeSAMError.noPixels(detail: "the library sent no image") }
            model.show(try await Self.image(from: data))
        } catch {
            model.report(error)
        }
    }

    /// Reads a photo upright, no larger than 2048 pixels; not on the main actor.
    private nonisolated static func image(from data: Data) async throws -> RGBImage { try RGBImage(data: data) }
}
