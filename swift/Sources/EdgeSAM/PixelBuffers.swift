import CoreVideo
import EdgeSAMCore
import Foundation

/// Between images and Core Video's buffers.
enum PixelBuffers {
    /// A buffer of undefined pixels that the Neural Engine and the GPU take without a copy.
    static func make(width: Int, height: Int, format: OSType) throws(EdgeSAMError) -> CVPixelBuffer {
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as [String: Any]
        var created: CVPixelBuffer?
        let status = CVPixelBufferCreate(
            kCFAllocatorDefault, width, height, format, attributes as CFDictionary, &created)
        guard status == kCVReturnSuccess, let buffer = created else {
            throw .noPixels(detail: "Core Video cannot make a buffer of \(width)x\(height) pixels (\(status))")
        }
        return buffer
    }

    /// Write red, green, blue bytes as opaque pixels to a 32BGRA buffer; three for each of its pixels.
    static func write(rgb: [UInt8], to buffer: CVPixelBuffer) throws(EdgeSAMError) {
        let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
        guard rgb.count == width * height * 3 else {
            throw .noPixels(detail: "\(rgb.count) bytes for \(width)x\(height) pixels")
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
    }

    /// Whether a buffer's planes hold luma and colour differences, and in which range; nil for another format.
    static func range(of format: OSType) -> YCbCrEncoding.Range? {
        switch format {
        case kCVPixelFormatType_420YpCbCr8BiPlanarFullRange: .full
        case kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange: .video
        default: nil
        }
    }

    /// The matrix that a buffer's attachment names; without one, that of its size: high definition has 720 rows or more.
    static func matrix(of buffer: CVPixelBuffer) throws(EdgeSAMError) -> YCbCrEncoding.Matrix {
        guard let attached = CVBufferCopyAttachment(buffer, kCVImageBufferYCbCrMatrixKey, nil) else {
            let shorter = min(CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
            return shorter < 720 ? .bt601 : .bt709
        }
        let known: [String: YCbCrEncoding.Matrix] = [
            kCVImageBufferYCbCrMatrix_ITU_R_601_4 as String: .bt601,
            kCVImageBufferYCbCrMatrix_ITU_R_709_2 as String: .bt709,
            kCVImageBufferYCbCrMatrix_ITU_R_2020 as String: .bt2020,
        ]
        let name = attached as? String ?? "\(attached)"
        guard let matrix = known[name] else { throw .colourMatrix(found: name) }
        return matrix
    }

    /// Four-character code of a pixel format, or its number when it is not one.
    static func name(of format: OSType) -> String {
        let codes = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: format >> $0) }
        guard codes.allSatisfy({ (0x20...0x7E).contains($0) }) else { return String(format) }
        return String(decoding: codes, as: UTF8.self)
    }
}

extension RGBImage {
    /// Copy a pixel buffer of format 32BGRA, 420f or 420v; alpha is ignored, padding of the rows left out.
    ///
    /// 420f and 420v are what ARKit and AVFoundation give; which matrix they were made with, their attachment says
    /// (ITU-R BT.601, BT.709, BT.2020).  Do this where the buffer is at home, such as the camera's callback: the image may
    /// then go anywhere.
    ///
    /// - Parameter orientation: how the buffer is to be turned; a camera's are usually `.right` while the phone is upright.
    /// - Throws: `EdgeSAMError` for another format or a buffer that cannot be locked.
    public init(_ pixelBuffer: CVPixelBuffer, orientation: ImageOrientation = .up) throws(EdgeSAMError) {
        let format = CVPixelBufferGetPixelFormatType(pixelBuffer)
        let range = PixelBuffers.range(of: format)
        guard format == kCVPixelFormatType_32BGRA || range != nil else {
            throw .pixelFormat(found: PixelBuffers.name(of: format))
        }
        guard CVPixelBufferLockBaseAddress(pixelBuffer, .readOnly) == kCVReturnSuccess else {
            throw .noPixels(detail: "Core Video cannot lock the pixel buffer")
        }
        defer { CVPixelBufferUnlockBaseAddress(pixelBuffer, .readOnly) }
        let stored: RGBImage
        if let range {
            stored = try RGBImage(planes: pixelBuffer, range: range)
        } else {
            stored = try RGBImage(bgra: pixelBuffer)
        }
        self = stored.oriented(orientation)
    }

    /// A locked buffer of format 32BGRA.
    private init(bgra buffer: CVPixelBuffer) throws(EdgeSAMError) {
        guard let base = CVPixelBufferGetBaseAddress(buffer) else {
            throw .noPixels(detail: "the pixel buffer has no memory")
        }
        let (bytesPerRow, height) = (CVPixelBufferGetBytesPerRow(buffer), CVPixelBufferGetHeight(buffer))
        do {
            try self.init(
                bgra: UnsafeRawBufferPointer(start: base, count: bytesPerRow * height), bytesPerRow: bytesPerRow,
                width: CVPixelBufferGetWidth(buffer), height: height)
        } catch {
            throw .picture(error)
        }
    }

    /// A locked buffer with a plane of luma and one of colour differences.
    private init(planes buffer: CVPixelBuffer, range: YCbCrEncoding.Range) throws(EdgeSAMError) {
        let encoding = YCbCrEncoding(matrix: try PixelBuffers.matrix(of: buffer), range: range)
        guard CVPixelBufferGetPlaneCount(buffer) == 2, let luma = CVPixelBufferGetBaseAddressOfPlane(buffer, 0),
            let chroma = CVPixelBufferGetBaseAddressOfPlane(buffer, 1)
        else { throw .noPixels(detail: "the buffer has not the two planes of its format") }
        func bytes(_ start: UnsafeMutableRawPointer, _ plane: Int) -> UnsafeRawBufferPointer {
            let count =
                CVPixelBufferGetBytesPerRowOfPlane(buffer, plane) * CVPixelBufferGetHeightOfPlane(buffer, plane)
            return UnsafeRawBufferPointer(start: start, count: count)
        }
        do {
            try self.init(
                luma: bytes(luma, 0), lumaBytesPerRow: CVPixelBufferGetBytesPerRowOfPlane(buffer, 0),
                chroma: bytes(chroma, 1), chromaBytesPerRow: CVPixelBufferGetBytesPerRowOfPlane(buffer, 1),
                width: CVPixelBufferGetWidth(buffer), height: CVPixelBufferGetHeight(buffer), encoding: encoding)
        } catch {
            throw .picture(error)
        }
    }
}
