import SwiftUI
import UIKit

struct EdgeSAMBenchApp: App {
    @State private var model = BenchmarkModel(
        engine: RuntimeEngine(launch: Launch.request), onActivity: DeviceSession.runChanged)
    @Environment(\.scenePhase) private var scenePhase

    private let memoryWarnings = NotificationCenter.default.publisher(
        for: UIApplication.didReceiveMemoryWarningNotification)
    private let endings = NotificationCenter.default.publisher(for: UIApplication.willTerminateNotification)

    var body: some Scene {
        WindowGroup {
            BenchmarkView(model: model)
                .onAppear {
                    DeviceSession.begin()
                    guard !Launch.request.preparesOnly else { return }
                    // Not the view's task: a window that goes away must not cancel the run.
                    Task { await model.startPendingRun() }
                }
                .onReceive(memoryWarnings) { _ in model.note(.memoryWarning) }
                .onReceive(endings) { _ in model.interrupt() }
        }
        .onChange(of: scenePhase) { _, phase in
            switch phase {
            case .background: model.note(.backgrounded)
            case .active: model.note(.foregrounded)
            // Inactive is still the foreground: a banner or the control centre lies over the app.
            default: break
            }
        }
    }
}
