import CoreVideo
import EdgeSAMCore
import Testing

@testable import EdgeSAM

/// A 32BGRA buffer with the pixels of an image.
func testBuffer(_ image: RGBImage) throws -> CVPixelBuffer {
    let buffer = try PixelBuffers.make(
        width: image.width, height: image.height, format: kCVPixelFormatType_32BGRA)
    try PixelBuffers.write(rgb: image.pixels, to: buffer)
    return buffer
}

/// A buffer of luma and colour differences made from an image: BT.601's equations, full range; every second pixel of
/// every second row gives the difference.
func testVideoBuffer(_ image: RGBImage) throws -> CVPixelBuffer {
    let buffer = try PixelBuffers.make(
        width: image.width, height: image.height, format: kCVPixelFormatType_420YpCbCr8BiPlanarFullRange)
    CVBufferSetAttachment(
        buffer, kCVImageBufferYCbCrMatrixKey, kCVImageBufferYCbCrMatrix_ITU_R_601_4, .shouldPropagate)
    let planes = try (0..<2).map { plane in
        (
            try #require(CVPixelBufferGetBaseAddressOfPlane(buffer, plane)).assumingMemoryBound(to: UInt8.self),
            CVPixelBufferGetBytesPerRowOfPlane(buffer, plane)
        )
    }
    for y in 0..<image.height {
        for x in 0..<image.width {
            let rgb = (0..<3).map { Double(image.pixels[(y * image.width + x) * 3 + $0]) }
            let luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
            planes[0].0[y * planes[0].1 + x] = UInt8(luma.rounded())
            guard x % 2 == 0, y % 2 == 0 else { continue }
            let pair = planes[1].0 + y / 2 * planes[1].1 + x
            pair[0] = UInt8(min(max(((rgb[2] - luma) / 1.772 + 128).rounded(), 0), 255))
            pair[1] = UInt8(min(max(((rgb[0] - luma) / 1.402 + 128).rounded(), 0), 255))
        }
    }
    return buffer
}
