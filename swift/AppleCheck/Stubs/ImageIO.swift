// The part of Image I/O that the package uses, without behaviour.
// swift-format-ignore-file: AlwaysUseLowerCamelCase
@_exported import CoreGraphics

/// <https://developer.apple.com/documentation/imageio/cgimagesource>
public final class CGImageSource {}

/// <https://developer.apple.com/documentation/imageio/cgimagesourcecreatewithurl(_:_:)>
public func CGImageSourceCreateWithURL(_ url: CFURL, _ options: CFDictionary?) -> CGImageSource? { nil }
/// <https://developer.apple.com/documentation/imageio/cgimagesourcecreatewithdata(_:_:)>
public func CGImageSourceCreateWithData(_ data: CFData, _ options: CFDictionary?) -> CGImageSource? { nil }
/// <https://developer.apple.com/documentation/imageio/cgimagesourcegetprimaryimageindex(_:)>
@available(iOS 12.0, macOS 10.14, visionOS 1.0, *)
public func CGImageSourceGetPrimaryImageIndex(_ isrc: CGImageSource) -> Int { 0 }
/// <https://developer.apple.com/documentation/imageio/cgimagesourcecopypropertiesatindex(_:_:_:)>
public func CGImageSourceCopyPropertiesAtIndex(
    _ isrc: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CFDictionary? { nil }
/// <https://developer.apple.com/documentation/imageio/cgimagesourcecreatethumbnailatindex(_:_:_:)>
public func CGImageSourceCreateThumbnailAtIndex(
    _ isrc: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CGImage? { nil }

/// <https://developer.apple.com/documentation/imageio/kcgimagesourceshouldcache>
public let kCGImageSourceShouldCache: CFString = ""
/// <https://developer.apple.com/documentation/imageio/kcgimagesourceshouldcacheimmediately>
public let kCGImageSourceShouldCacheImmediately: CFString = ""
/// <https://developer.apple.com/documentation/imageio/kcgimagesourcecreatethumbnailfromimagealways>
public let kCGImageSourceCreateThumbnailFromImageAlways: CFString = ""
/// <https://developer.apple.com/documentation/imageio/kcgimagesourcecreatethumbnailwithtransform>
public let kCGImageSourceCreateThumbnailWithTransform: CFString = ""
/// <https://developer.apple.com/documentation/imageio/kcgimagesourcethumbnailmaxpixelsize>
public let kCGImageSourceThumbnailMaxPixelSize: CFString = ""
/// <https://developer.apple.com/documentation/imageio/kcgimagepropertypixelwidth>
public let kCGImagePropertyPixelWidth: CFString = ""
/// <https://developer.apple.com/documentation/imageio/kcgimagepropertypixelheight>
public let kCGImagePropertyPixelHeight: CFString = ""

/// <https://developer.apple.com/documentation/imageio/cgimagepropertyorientation>
public enum CGImagePropertyOrientation: UInt32, Sendable {
    case up = 1
    case upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left
}
