import CoreGraphics
import EdgeSAM
import Foundation
import ImageIO

/// Photos as the model takes them.
enum Photo {
    /// Longest side in pixels: more than a screen shows would cost memory and time and give no better masks.
    static let longestSide = 2048

    /// The image in a file's bytes, upright and no larger than ``longestSide``; not on the caller's actor.
    ///
    /// Image I/O reads a large photo at the smaller size, so that its full size is never in memory.
    static func image(from data: Data) async throws -> RGBImage {
        let options: [CFString: Any] = [
            kCGImageSourceCreateThumbnailFromImageAlways: true,
            kCGImageSourceCreateThumbnailWithTransform: true,
            kCGImageSourceThumbnailMaxPixelSize: longestSide,
        ]
        guard let source = CGImageSourceCreateWithData(data as CFData, nil),
            let image = CGImageSourceCreateThumbnailAtIndex(source, 0, options as CFDictionary)
        else { throw EdgeSAMError.noPixels(detail: "these bytes are no image that the system can read") }
        return try RGBImage(image)
    }
}
