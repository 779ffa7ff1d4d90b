import UIKit

/// What a run needs of the device: a battery that can be read and a screen that stays on.
@MainActor
enum DeviceSession {
    static func begin() {
        UIDevice.current.isBatteryMonitoringEnabled = true
    }

    /// A locked screen suspends the app and spoils the samples, so the device must not lock during a run.
    static func runChanged(isRunning: Bool) {
        UIApplication.shared.isIdleTimerDisabled = isRunning
    }
}
