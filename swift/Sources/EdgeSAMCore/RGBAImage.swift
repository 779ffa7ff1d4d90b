/// A colour with 8 bits for each channel, sRGB.
public struct RGBColor: Sendable, Hashable {
    public var red: UInt8
    public var green: UInt8
    public var blue: UInt8

    public init(red: UInt8, green: UInt8, blue: UInt8) {
        self.red = red
        self.green = green
        self.blue = blue
    }
}

/// An 8-bit image with transparency: red, green, blue, alpha, row after row without padding; alpha is straight, so that
/// colours are not multiplied by it.
public struct RGBAImage: Sendable, Hashable {
    public let width: Int
    public let height: Int
    /// `width * height * 4` bytes.
    public let pixels: [UInt8]

    public var size: PixelSize { PixelSize(width: width, height: height) }

    /// - Throws: `ImageError` when a side is not positive or too long, or `pixels` has another length.
    public init(width: Int, height: Int, pixels: [UInt8]) throws(ImageError) {
        try RGBImage.check(width, height)
        guard pixels.count == width * height * 4 else {
            throw .byteCount(needed: width * height * 4, given: pixels.count, width: width, height: height)
        }
        self.init(size: PixelSize(width: width, height: height), checked: pixels)
    }

    /// Pixels that are known to be four for each of `size`.
    init(size: PixelSize, checked pixels: [UInt8]) {
        width = size.width
        height = size.height
        self.pixels = pixels
    }
}
