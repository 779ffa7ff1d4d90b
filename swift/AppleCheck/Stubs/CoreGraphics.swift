// The part of Core Graphics that the package uses, without behaviour; declarations as the SDK imports them.
// None is Sendable here: newer SDKs say so of some, older ones do not, and the package must compile with both.
@_exported import CoreFoundation
@_exported import Foundation

/// <https://developer.apple.com/documentation/coregraphics/cgimage>
public final class CGImage {
    public var width: Int { 0 }
    public var height: Int { 0 }
    public init?(
        width: Int, height: Int, bitsPerComponent: Int, bitsPerPixel: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: CGBitmapInfo, provider: CGDataProvider, decode: UnsafePointer<CGFloat>?, shouldInterpolate: Bool,
        intent: CGColorRenderingIntent
    ) { nil }
}

/// <https://developer.apple.com/documentation/coregraphics/cgcolorspace>
public final class CGColorSpace {
    public init?(name: CFString) { nil }
    public class var sRGB: CFString { "" }
}

/// <https://developer.apple.com/documentation/coregraphics/cgcolorspacecreatedevicegray()>
public func CGColorSpaceCreateDeviceGray() -> CGColorSpace { fatalError() }

/// <https://developer.apple.com/documentation/coregraphics/cgcolorrenderingintent>
public enum CGColorRenderingIntent: Int32, Sendable {
    case defaultIntent = 0
    case absoluteColorimetric, relativeColorimetric, perceptual, saturation
}

/// <https://developer.apple.com/documentation/coregraphics/cgimagealphainfo>
public enum CGImageAlphaInfo: UInt32, Sendable {
    case none = 0
    case premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst, alphaOnly
}

/// <https://developer.apple.com/documentation/coregraphics/cgbitmapinfo>
public struct CGBitmapInfo: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// <https://developer.apple.com/documentation/coregraphics/cginterpolationquality>
public enum CGInterpolationQuality: Int32, Sendable {
    case `default` = 0
    case none, low, high, medium
}

/// <https://developer.apple.com/documentation/coregraphics/cgdataprovider>
public final class CGDataProvider { public init?(data: CFData) { nil } }

/// <https://developer.apple.com/documentation/coregraphics/cgcontext>
public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) { nil }
    public func setFillColor(red: CGFloat, green: CGFloat, blue: CGFloat, alpha: CGFloat) {}
    public func fill(_ rect: CGRect) {}
    public var interpolationQuality: CGInterpolationQuality { get { .none } set {} }
    public func draw(_ image: CGImage, in rect: CGRect, byTiling: Bool = false) {}
    public var data: UnsafeMutableRawPointer? { nil }
    public var bytesPerRow: Int { 0 }
}

/// <https://developer.apple.com/documentation/coregraphics/cgpath>
public class CGPath { fileprivate init() {} }

/// <https://developer.apple.com/documentation/coregraphics/cgmutablepath>
public final class CGMutablePath: CGPath {
    public override init() {}
    public func addLines(between points: [CGPoint]) {}
    public func closeSubpath() {}
}
