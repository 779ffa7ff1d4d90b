import EdgeSAMUI
import SwiftUI

@main
struct EdgeSAMDemoApp: App {
    @State private var model = SegmentationModel(engine: BundledModels.engine)

    var body: some Scene {
        WindowGroup {
            DemoView(model: model)
        }
    }
}
