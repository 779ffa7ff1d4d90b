import Foundation

/// A picture in memory, its rows padded to a multiple of 64 bytes.
///
/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffer>.  Planar formats are left out.
public final class CVPixelBuffer {
    static let rowAlignment = 64

    let width: Int
    let height: Int
    let pixelFormat: OSType
    let bytesPerRow: Int
    let storage: UnsafeMutableRawPointer

    init(width: Int, height: Int, pixelFormat: OSType, bytesPerPixel: Int) {
        self.width = width
        self.height = height
        self.pixelFormat = pixelFormat
        bytesPerRow = (width * bytesPerPixel + Self.rowAlignment - 1) / Self.rowAlignment * Self.rowAlignment
        storage = .allocate(byteCount: bytesPerRow * height, alignment: Self.rowAlignment)
        // Padding that is not zero shows code that reads rows as if they were dense.
        storage.initializeMemory(as: UInt8.self, repeating: 0xA5, count: bytesPerRow * height)
    }

    deinit {
        storage.deallocate()
    }
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvimagebuffer>.
public typealias CVImageBuffer = CVPixelBuffer
