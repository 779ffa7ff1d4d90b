// The part of UIKit that the library and the benchmark use, beside ../Apps/TypeCheck/UIKit.swift.
@_exported import CoreGraphics

extension UIDevice {
    public enum BatteryState: Int, Sendable {
        case unknown = 0
        case unplugged, charging, full
    }
    public var batteryState: BatteryState { .unknown }
    public var batteryLevel: Float { 0 }
}

/// <https://developer.apple.com/documentation/uikit/uiscreen>
@MainActor public final class UIScreen {
    @available(iOS, introduced: 2.0, deprecated: 26.0)
    public static var main: UIScreen { fatalError() }
    public var brightness: CGFloat { get { 0 } set {} }
}

/// <https://developer.apple.com/documentation/uikit/uiimage>
public final class UIImage {
    /// <https://developer.apple.com/documentation/uikit/uiimage/orientation>
    public enum Orientation: Int, Sendable {
        case up = 0
        case down, left, right, upMirrored, downMirrored, leftMirrored, rightMirrored
    }
    public init(cgImage: CGImage) {}
    public var cgImage: CGImage? { nil }
    public var imageOrientation: Orientation { .up }
    public var size: CGSize { .zero }
    public var scale: CGFloat { 1 }
}
