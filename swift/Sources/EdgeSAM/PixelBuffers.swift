import CoreVideo
import EdgeSAMCore
import Foundation

/// Between pictures and Core Video's buffers, 32BGRA only.
enum PixelBuffers {
    /// A buffer with opaque pixels from red, green, blue bytes; `rgb` holds `width * height * 3` of them.
    static func bgra(rgb: [UInt8], width: Int, height: Int) throws(EdgeSAMError) -> CVPixelBuffer {
        guard rgb.count == width * height * 3 else {
            throw .noPixels(detail: "\(rgb.count) bytes for \(width)x\(height) pixels")
        }
        // An IOSurface can be handed to the Neural Engine and the GPU without a copy.
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as [String: Any]
        var created: CVPixelBuffer?
        let status = CVPixelBufferCreate(
            kCFAllocatorDefault, width, height, kCVPixelFormatType_32BGRA, attributes as CFDictionary, &created)
        guard status == kCVReturnSuccess, let buffer = created else {
            throw .noPixels(detail: "Core Video cannot make a buffer of \(width)x\(height) pixels (\(status))")
        }
        guard CVPixelBufferLockBaseAddress(buffer, []) == kCVReturnSuccess,
            let base = CVPixelBufferGetBaseAddress(buffer)
        else { throw .noPixels(detail: "Core Video cannot lock a new buffer") }
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        let bytesPerRow = CVPixelBufferGetBytesPerRow(buffer)
        rgb.withUnsafeBufferPointer { source in
            var next = 0
            for row in 0..<height {
                let target = (base + row * bytesPerRow).assumingMemoryBound(to: UInt8.self)
                for column in 0..<width {
                    target[4 * column] = source[next + 2]
                    target[4 * column + 1] = source[next + 1]
                    target[4 * column + 2] = source[next]
                    target[4 * column + 3] = 255
                    next += 3
                }
            }
        }
        return buffer
    }

    /// Four-character code of a pixel format, or its number when it is not one.
    static func name(of format: OSType) -> String {
        let codes = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: format >> $0) }
        guard codes.allSatisfy({ (0x20...0x7E).contains($0) }) else { return String(format) }
        return String(decoding: codes, as: UTF8.self)
    }
}

extension RGBImage {
    /// Copy a pixel buffer of format 32BGRA; alpha is ignored, padding of the rows left out.
    ///
    /// Do this where the buffer is at home, such as the camera's callback: the picture may then go anywhere.
    ///
    /// - Throws: `EdgeSAMError` for another format or a buffer that cannot be locked.
    public init(_ pixelBuffer: CVPixelBuffer) throws(EdgeSAMError) {
        let format = CVPixelBufferGetPixelFormatType(pixelBuffer)
        guard format == kCVPixelFormatType_32BGRA else { throw .pixelFormat(found: PixelBuffers.name(of: format)) }
        guard CVPixelBufferLockBaseAddress(pixelBuffer, .readOnly) == kCVReturnSuccess,
            let base = CVPixelBufferGetBaseAddress(pixelBuffer)
        else { throw .noPixels(detail: "Core Video cannot lock the pixel buffer") }
        defer { CVPixelBufferUnlockBaseAddress(pixelBuffer, .readOnly) }
        let (width, height) = (CVPixelBufferGetWidth(pixelBuffer), CVPixelBufferGetHeight(pixelBuffer))
        let bytesPerRow = CVPixelBufferGetBytesPerRow(pixelBuffer)
        do {
            try self.init(
                bgra: UnsafeRawBufferPointer(start: base, count: bytesPerRow * height), bytesPerRow: bytesPerRow,
                width: width, height: height)
        } catch {
            throw .picture(error)
        }
    }
}
