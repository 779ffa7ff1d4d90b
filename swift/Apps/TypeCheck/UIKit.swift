// The part of UIKit that the app uses, without behaviour; see SwiftUI.swift.
@_exported import Foundation

@MainActor public final class UIDevice {
    public static let current = UIDevice()
    public var isBatteryMonitoringEnabled = false
}
@MainActor public final class UIApplication {
    public static let shared = UIApplication()
    public nonisolated static let didReceiveMemoryWarningNotification = Notification.Name("memory warning")
    public nonisolated static let willTerminateNotification = Notification.Name("end")
    public var isIdleTimerDisabled = false
}
