import Foundation

/// An 8-bit image, red, green, blue, row after row without padding.
public struct RGBImage: Sendable, Hashable {
    public let width: Int
    public let height: Int
    /// `width * height * 3` bytes.
    public let pixels: [UInt8]

    /// Longest side and pixel count that are accepted; far above any camera, far below what overflows.
    static let longestSide = 1 << 16
    static let mostPixels = 1 << 28

    public var size: PixelSize { PixelSize(width: width, height: height) }

    /// - Throws: `ImageError` when a side is not positive or too long, or `pixels` has another length.
    public init(width: Int, height: Int, pixels: [UInt8]) throws(ImageError) {
        try Self.check(width, height)
        guard pixels.count == width * height * 3 else {
            throw .byteCount(needed: width * height * 3, given: pixels.count, width: width, height: height)
        }
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// Read blue, green, red, alpha bytes, as `kCVPixelFormatType_32BGRA` stores them; alpha is ignored.
    public init(bgra bytes: UnsafeRawBufferPointer, bytesPerRow: Int, width: Int, height: Int) throws(ImageError) {
        try self.init(quads: bytes, bytesPerRow: bytesPerRow, width: width, height: height, order: (2, 1, 0))
    }

    /// Read red, green, blue, alpha bytes; alpha is ignored.
    public init(rgba bytes: UnsafeRawBufferPointer, bytesPerRow: Int, width: Int, height: Int) throws(ImageError) {
        try self.init(quads: bytes, bytesPerRow: bytesPerRow, width: width, height: height, order: (0, 1, 2))
    }

    private init(
        quads bytes: UnsafeRawBufferPointer, bytesPerRow: Int, width: Int, height: Int, order: (Int, Int, Int)
    ) throws(ImageError) {
        try Self.check(width, height)
        try Self.check(bytes, bytesPerRow: bytesPerRow, needed: width * 4, width: width, height: height)
        self.width = width
        self.height = height
        pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { target, count in
            var next = 0
            for row in 0..<height {
                var from = row * bytesPerRow
                for _ in 0..<width {
                    target[next] = bytes[from + order.0]
                    target[next + 1] = bytes[from + order.1]
                    target[next + 2] = bytes[from + order.2]
                    next += 3
                    from += 4
                }
            }
            count = next
        }
    }

    /// Check that `height` rows of `needed` bytes each lie inside `bytes`.
    static func check(
        _ bytes: UnsafeRawBufferPointer, bytesPerRow: Int, needed: Int, width: Int, height: Int
    ) throws(ImageError) {
        guard bytesPerRow >= needed else { throw .rowTooShort(needed: needed, given: bytesPerRow, width: width) }
        // The last row may end before its padding does.
        let (before, overflow) = bytesPerRow.multipliedReportingOverflow(by: height - 1)
        guard !overflow, before <= bytes.count, bytes.count - before >= needed else {
            let all = overflow || before > Int.max - needed ? Int.max : before + needed
            throw .byteCount(needed: all, given: bytes.count, width: width, height: height)
        }
    }

    /// Pixels that are known to be three for each of `size`.
    init(size: PixelSize, checked pixels: [UInt8]) {
        width = size.width
        height = size.height
        self.pixels = pixels
    }

    static func check(_ width: Int, _ height: Int) throws(ImageError) {
        let sides = 1...longestSide
        guard sides.contains(width), sides.contains(height), width * height <= mostPixels else {
            throw .size(width: width, height: height)
        }
    }
}

/// Why bytes are not an image.
public enum ImageError: Error, Equatable, Sendable, LocalizedError {
    case size(width: Int, height: Int)
    case byteCount(needed: Int, given: Int, width: Int, height: Int)
    case rowTooShort(needed: Int, given: Int, width: Int)
    case maskSize(mask: PixelSize, image: PixelSize)

    public var errorDescription: String? {
        switch self {
        case .size(let width, let height):
            return "image has size \(width)x\(height); both sides must be 1 to \(RGBImage.longestSide) pixels"
                + " and the whole at most \(RGBImage.mostPixels) pixels"
        case .byteCount(let needed, let given, let width, let height):
            return "image of \(width)x\(height) pixels needs \(needed) bytes but has \(given);"
                + " check size and row stride"
        case .rowTooShort(let needed, let given, let width):
            return "image rows have \(given) bytes but \(width) pixels need \(needed); check width and row stride"
        case .maskSize(let mask, let image):
            return "mask has size \(mask.width)x\(mask.height) but the image \(image.width)x\(image.height);"
                + " take the mask of the same image"
        }
    }
}
