import Foundation

/// An image in memory, the rows of each plane padded to a multiple of 64 bytes.
///
/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffer>.
public final class CVPixelBuffer {
    /// One plane; an image that is not planar has one.
    struct Plane {
        let width: Int
        let height: Int
        let bytesPerRow: Int
        /// From the start of the memory.
        let offset: Int
    }

    static let rowAlignment = 64

    let width: Int
    let height: Int
    let pixelFormat: OSType
    let planes: [Plane]
    let isPlanar: Bool
    let storage: UnsafeMutableRawPointer
    let byteCount: Int
    var attachments: [CFString: CFTypeRef] = [:]

    init(width: Int, height: Int, pixelFormat: OSType, layout: PixelLayout) {
        self.width = width
        self.height = height
        self.pixelFormat = pixelFormat
        isPlanar = layout.isPlanar
        var planes: [Plane] = []
        var size = 0
        for plane in layout.planes {
            let columns = (width + plane.subsampling - 1) / plane.subsampling
            let rows = (height + plane.subsampling - 1) / plane.subsampling
            let bytesPerRow =
                (columns * plane.bytesPerPixel + Self.rowAlignment - 1) / Self.rowAlignment * Self.rowAlignment
            planes.append(Plane(width: columns, height: rows, bytesPerRow: bytesPerRow, offset: size))
            size += bytesPerRow * rows
        }
        self.planes = planes
        byteCount = size
        storage = .allocate(byteCount: size, alignment: Self.rowAlignment)
        // Padding that is not zero shows code that reads rows as if they were dense.
        storage.initializeMemory(as: UInt8.self, repeating: 0xA5, count: size)
    }

    deinit {
        storage.deallocate()
    }
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvimagebuffer>.
public typealias CVImageBuffer = CVPixelBuffer

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvbuffer>.
public typealias CVBuffer = CVPixelBuffer
