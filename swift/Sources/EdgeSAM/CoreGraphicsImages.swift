#if canImport(CoreGraphics)
    import CoreGraphics
    import EdgeSAMCore
    import Foundation

    extension RGBImage {
        /// Copy an image as 8-bit sRGB; transparent parts lie on white.
        ///
        /// It takes 7 bytes for each pixel while it works, 3 afterwards.
        ///
        /// - Parameters:
        ///   - orientation: how the stored pixels are to be turned; what a photo's metadata say.
        ///   - maximumSide: longest side of the copy in pixels, for images much larger than a model's frame; nil keeps the
        ///     size and every pixel as it is.
        /// - Throws: `EdgeSAMError` when the image is too large or cannot be drawn.
        public init(
            _ image: CGImage, orientation: ImageOrientation = .up, maximumSide: Int? = nil
        ) throws(EdgeSAMError) {
            let full = PixelSize(width: image.width, height: image.height)
            let size = full.limited(to: maximumSide)
            // White below and no alpha channel: what edgesam-export's Python side does with transparency.
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                let context = CGContext(
                    data: nil, width: size.width, height: size.height, bitsPerComponent: 8, bytesPerRow: 0,
                    space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { throw .noPixels(detail: "no drawing context of \(size.width)x\(size.height) pixels") }
            let area = CGRect(x: 0, y: 0, width: size.width, height: size.height)
            context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
            context.fill(area)
            context.interpolationQuality = size == full ? .none : .high
            context.draw(image, in: area)
            self = try RGBImage(context, size: size).oriented(orientation)
        }

        /// The pixels of a context of red, green, blue and an unused byte.
        private init(_ context: CGContext, size: PixelSize) throws(EdgeSAMError) {
            // The memory is the context's, which must not go before it is read.
            let read = withExtendedLifetime(context) { () -> Result<RGBImage, EdgeSAMError> in
                guard let pixels = context.data else {
                    return .failure(.noPixels(detail: "the drawing context has no memory"))
                }
                do throws(ImageError) {
                    return .success(
                        try RGBImage(
                            rgba: UnsafeRawBufferPointer(start: pixels, count: context.bytesPerRow * size.height),
                            bytesPerRow: context.bytesPerRow, width: size.width, height: size.height))
                } catch {
                    return .failure(.picture(error))
                }
            }
            self = try read.get()
        }

        /// The image for drawing, opaque, sRGB.
        public func cgImage() -> CGImage? {
            RGBAImage.cgImage(Data(pixels), size: size, bytesPerPixel: 3, alpha: .none)
        }
    }

    extension RGBAImage {
        /// The image for drawing, sRGB, alpha not multiplied in.
        public func cgImage() -> CGImage? {
            Self.cgImage(Data(pixels), size: size, bytesPerPixel: 4, alpha: .last)
        }

        fileprivate static func cgImage(
            _ pixels: Data, size: PixelSize, bytesPerPixel: Int, alpha: CGImageAlphaInfo
        ) -> CGImage? {
            guard let provider = CGDataProvider(data: pixels as CFData),
                let space = bytesPerPixel == 1 ? CGColorSpaceCreateDeviceGray() : CGColorSpace(name: CGColorSpace.sRGB)
            else { return nil }
            return CGImage(
                width: size.width, height: size.height, bitsPerComponent: 8, bitsPerPixel: 8 * bytesPerPixel,
                bytesPerRow: bytesPerPixel * size.width, space: space,
                bitmapInfo: CGBitmapInfo(rawValue: alpha.rawValue), provider: provider, decode: nil,
                shouldInterpolate: false, intent: .defaultIntent)
        }
    }

    extension BinaryMask {
        /// The mask as an 8-bit grey image, 255 inside and 0 outside; usable as a `CGContext` mask.
        public func cgImage() -> CGImage? {
            RGBAImage.cgImage(Data(alpha), size: size, bytesPerPixel: 1, alpha: .none)
        }

        /// The outline as a path in pixels of the mask, y down; see `outline(tolerance:)`. Both fill rules fill the mask.
        public func path(tolerance: Double = 0) -> CGPath {
            let path = CGMutablePath()
            for area in outline(tolerance: tolerance) {
                for ring in [area.exterior] + area.holes {
                    path.addLines(between: ring.map { CGPoint(x: $0.x, y: $0.y) })
                    path.closeSubpath()
                }
            }
            return path
        }
    }

    extension MaskCandidate {
        /// The mask as an 8-bit grey image, 255 inside and 0 outside; usable as a `CGContext` mask.
        public func cgImage() -> CGImage? { mask.cgImage() }
    }
#endif
