#if canImport(CoreGraphics)
    import CoreGraphics
    import EdgeSAMCore
    import Foundation

    extension RGBImage {
        /// Copy a picture as 8-bit sRGB; transparent parts lie on white.
        ///
        /// The pixels are taken as they are stored: turn a picture upright first if its file says it is rotated.
        ///
        /// - Throws: `EdgeSAMError` when the picture is too large or cannot be drawn.
        public init(_ image: CGImage) throws(EdgeSAMError) {
            let (width, height) = (image.width, image.height)
            // White below and no alpha channel: what edgesam-export's Python side does with transparency.
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                let context = CGContext(
                    data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 0, space: space,
                    bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { throw .noPixels(detail: "no drawing context of \(width)x\(height) pixels") }
            let area = CGRect(x: 0, y: 0, width: width, height: height)
            context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
            context.fill(area)
            context.interpolationQuality = .none
            context.draw(image, in: area)
            guard let pixels = context.data else { throw .noPixels(detail: "the drawing context has no memory") }
            do {
                try self.init(
                    rgba: UnsafeRawBufferPointer(start: pixels, count: context.bytesPerRow * height),
                    bytesPerRow: context.bytesPerRow, width: width, height: height)
            } catch {
                throw .picture(error)
            }
        }
    }

    extension MaskCandidate {
        /// The mask as an 8-bit grey picture, 255 inside and 0 outside; usable as a `CGContext` mask.
        public func cgImage() -> CGImage? {
            let mask = self.mask
            guard let provider = CGDataProvider(data: Data(mask.alpha) as CFData) else { return nil }
            return CGImage(
                width: mask.size.width, height: mask.size.height, bitsPerComponent: 8, bitsPerPixel: 8,
                bytesPerRow: mask.size.width, space: CGColorSpaceCreateDeviceGray(),
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider, decode: nil,
                shouldInterpolate: false, intent: .defaultIntent)
        }
    }
#endif
