// The part of Image I/O that only the demo uses, beside ImageIO.swift.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

public typealias CFMutableData = NSMutableData
/// <https://developer.apple.com/documentation/imageio/cgimagedestination>
public final class CGImageDestination {}
/// <https://developer.apple.com/documentation/imageio/cgimagedestinationcreatewithdata(_:_:_:_:)>
public func CGImageDestinationCreateWithData(
    _ data: CFMutableData, _ type: CFString, _ count: Int, _ options: CFDictionary?
) -> CGImageDestination? { nil }
/// <https://developer.apple.com/documentation/imageio/cgimagedestinationaddimage(_:_:_:)>
public func CGImageDestinationAddImage(_ idst: CGImageDestination, _ image: CGImage, _ properties: CFDictionary?) {}
/// <https://developer.apple.com/documentation/imageio/cgimagedestinationfinalize(_:)>
public func CGImageDestinationFinalize(_ idst: CGImageDestination) -> Bool { false }
extension CGImage {
    /// <https://developer.apple.com/documentation/coregraphics/cgimage/cropping(to:)>
    public func cropping(to rect: CGRect) -> CGImage? { nil }
}
