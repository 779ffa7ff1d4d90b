// The names are Core Video's.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Foundation

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelformattype_32bgra>.
public let kCVPixelFormatType_32BGRA: OSType = 0x4247_5241  // 'BGRA'

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelformattype_32argb>.
public let kCVPixelFormatType_32ARGB: OSType = 0x0000_0020

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelformattype_onecomponent8>.
public let kCVPixelFormatType_OneComponent8: OSType = 0x4C30_3038  // 'L008'

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelformattype_onecomponent16half>.
public let kCVPixelFormatType_OneComponent16Half: OSType = 0x4C30_3068  // 'L00h'

/// Bytes of one pixel; a format that is not listed cannot be created here.
let bytesPerPixel: [OSType: Int] = [
    kCVPixelFormatType_32BGRA: 4,
    kCVPixelFormatType_32ARGB: 4,
    kCVPixelFormatType_OneComponent8: 1,
    kCVPixelFormatType_OneComponent16Half: 2,
]

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbufferiosurfacepropertieskey>.
public let kCVPixelBufferIOSurfacePropertiesKey: CFString = "IOSurfaceProperties"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbuffermetalcompatibilitykey>.
public let kCVPixelBufferMetalCompatibilityKey: CFString = "MetalCompatibility"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbuffercgimagecompatibilitykey>.
public let kCVPixelBufferCGImageCompatibilityKey: CFString = "CGImageCompatibility"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbuffercgbitmapcontextcompatibilitykey>.
public let kCVPixelBufferCGBitmapContextCompatibilityKey: CFString = "CGBitmapContextCompatibility"
