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

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelformattype_420ypcbcr8biplanarfullrange>.
public let kCVPixelFormatType_420YpCbCr8BiPlanarFullRange: OSType = 0x3432_3066  // '420f'

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelformattype_420ypcbcr8biplanarvideorange>.
public let kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange: OSType = 0x3432_3076  // '420v'

/// The planes of a pixel format.
struct PixelLayout: Sendable {
    struct Plane: Sendable {
        let bytesPerPixel: Int
        /// Pixels of the image for each one of the plane, in both directions.
        let subsampling: Int
    }

    let planes: [Plane]
    let isPlanar: Bool

    /// A format with one value after the other.
    init(bytesPerPixel: Int) {
        planes = [Plane(bytesPerPixel: bytesPerPixel, subsampling: 1)]
        isPlanar = false
    }

    init(planes: [Plane]) {
        self.planes = planes
        isPlanar = true
    }

    private static let biPlanar420 = PixelLayout(
        planes: [Plane(bytesPerPixel: 1, subsampling: 1), Plane(bytesPerPixel: 2, subsampling: 2)])

    /// A format that is not listed cannot be created here.
    static let all: [OSType: PixelLayout] = [
        kCVPixelFormatType_32BGRA: PixelLayout(bytesPerPixel: 4),
        kCVPixelFormatType_32ARGB: PixelLayout(bytesPerPixel: 4),
        kCVPixelFormatType_OneComponent8: PixelLayout(bytesPerPixel: 1),
        kCVPixelFormatType_OneComponent16Half: PixelLayout(bytesPerPixel: 2),
        kCVPixelFormatType_420YpCbCr8BiPlanarFullRange: biPlanar420,
        kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange: biPlanar420,
    ]
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbufferiosurfacepropertieskey>.
public let kCVPixelBufferIOSurfacePropertiesKey: CFString = "IOSurfaceProperties"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbuffermetalcompatibilitykey>.
public let kCVPixelBufferMetalCompatibilityKey: CFString = "MetalCompatibility"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbuffercgimagecompatibilitykey>.
public let kCVPixelBufferCGImageCompatibilityKey: CFString = "CGImageCompatibility"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvpixelbuffercgbitmapcontextcompatibilitykey>.
public let kCVPixelBufferCGBitmapContextCompatibilityKey: CFString = "CGBitmapContextCompatibility"
