#if canImport(ImageIO)
    import EdgeSAMCore
    import Foundation
    import ImageIO

    extension ImageOrientation {
        /// The same orientation in Core Graphics' words.
        public init(_ orientation: CGImagePropertyOrientation) {
            self = ImageOrientation(rawValue: Int(orientation.rawValue)) ?? .up
        }
    }

    extension RGBImage {
        /// Longest side of images from files unless said otherwise: twice the frame of most models, so that masks keep
        /// their detail, and 12 MB for a photo of 48 megapixels instead of 336.
        public static let defaultMaximumSide = 2048

        /// Read a file of any format that the system knows, turned upright, as 8-bit sRGB.
        ///
        /// The file is shrunk while it is decoded, so that a large photo never lies in memory as a whole.
        ///
        /// - Parameter maximumSide: longest side in pixels; smaller images keep their size.
        /// - Throws: `EdgeSAMError.notAFile`, `.missingFile` or `.unreadableImage`.
        public init(contentsOf url: URL, maximumSide: Int = RGBImage.defaultMaximumSide) throws(EdgeSAMError) {
            guard url.isFileURL else { throw .notAFile(url: url.absoluteString) }
            guard FileManager.default.fileExists(atPath: url.path) else { throw .missingFile(path: url.path) }
            let options = [kCGImageSourceShouldCache as String: false] as [String: Any] as CFDictionary
            try self.init(
                CGImageSourceCreateWithURL(url as CFURL, options), named: url.lastPathComponent,
                maximumSide: maximumSide)
        }

        /// Read the bytes of a file; see `init(contentsOf:maximumSide:)`.
        public init(data: Data, maximumSide: Int = RGBImage.defaultMaximumSide) throws(EdgeSAMError) {
            let options = [kCGImageSourceShouldCache as String: false] as [String: Any] as CFDictionary
            try self.init(
                CGImageSourceCreateWithData(data as CFData, options), named: "data", maximumSide: maximumSide)
        }

        private init(_ source: CGImageSource?, named name: String, maximumSide: Int) throws(EdgeSAMError) {
            guard let source else { throw .unreadableImage(source: name, detail: "it is no image") }
            let index = CGImageSourceGetPrimaryImageIndex(source)
            let options: [String: Any] = [
                kCGImageSourceCreateThumbnailFromImageAlways as String: true,
                kCGImageSourceCreateThumbnailWithTransform as String: true,
                kCGImageSourceShouldCacheImmediately as String: true,
                kCGImageSourceThumbnailMaxPixelSize as String: max(1, maximumSide),
            ]
            guard let image = CGImageSourceCreateThumbnailAtIndex(source, index, options as CFDictionary) else {
                throw .unreadableImage(source: name, detail: "its pixels are damaged or cut off")
            }
            try self.init(image)
        }
    }
#endif
