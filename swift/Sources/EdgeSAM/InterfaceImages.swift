#if canImport(UIKit)
    import EdgeSAMCore
    import UIKit

    extension ImageOrientation {
        /// The same orientation in UIKit's words, which have other numbers.
        public init(_ orientation: UIImage.Orientation) {
            switch orientation {
            case .up: self = .up
            case .down: self = .down
            case .left: self = .left
            case .right: self = .right
            case .upMirrored: self = .upMirrored
            case .downMirrored: self = .downMirrored
            case .leftMirrored: self = .leftMirrored
            case .rightMirrored: self = .rightMirrored
            @unknown default: self = .up
            }
        }
    }

    extension RGBImage {
        /// Copy an image upright, at its size in pixels.
        ///
        /// - Parameter maximumSide: longest side of the copy in pixels; nil keeps the size.
        /// - Throws: `EdgeSAMError.noPixels` for an image without a bitmap, such as one made from a `CIImage`.
        public init(_ image: UIImage, maximumSide: Int? = nil) throws(EdgeSAMError) {
            guard let pixels = image.cgImage else {
                throw .noPixels(detail: "this UIImage has no bitmap; render it first, as UIGraphicsImageRenderer does")
            }
            try self.init(pixels, orientation: ImageOrientation(image.imageOrientation), maximumSide: maximumSide)
        }
    }
#elseif canImport(AppKit)
    import AppKit
    import EdgeSAMCore

    extension RGBImage {
        /// Copy an image at the size of its best bitmap.
        ///
        /// - Parameter maximumSide: longest side of the copy in pixels; nil keeps the size.
        /// - Throws: `EdgeSAMError.noPixels` for an image that cannot be drawn.
        public init(_ image: NSImage, maximumSide: Int? = nil) throws(EdgeSAMError) {
            guard let pixels = image.cgImage(forProposedRect: nil, context: nil, hints: nil) else {
                throw .noPixels(detail: "this NSImage cannot be drawn")
            }
            try self.init(pixels, maximumSide: maximumSide)
        }
    }
#endif
