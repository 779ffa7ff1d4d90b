#if canImport(CoreGraphics)
    import CoreGraphics
    import EdgeSAM
    import Foundation

    extension RGBImage {
        /// The image for a view, in sRGB; nil only where the system refuses it.
        var displayed: CGImage? {
            guard let provider = CGDataProvider(data: Data(pixels) as CFData),
                let space = CGColorSpace(name: CGColorSpace.sRGB)
            else { return nil }
            return CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: width * 3,
                space: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider, decode: nil,
                shouldInterpolate: true, intent: .defaultIntent)
        }
    }
#endif
