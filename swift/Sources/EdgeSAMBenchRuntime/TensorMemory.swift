@preconcurrency import CoreML
import CoreVideo
import EdgeSAMBenchCore
import Foundation

/// Memory for tensors and images.
enum TensorMemory {
    /// A tensor; half-precision ones lie in a surface where pixel buffers are asked for, so that no copy is needed.
    static func make(shape: [Int], type: MLMultiArrayDataType, memory: InputMemory) throws -> MLMultiArray {
        let sizes = shape.map { NSNumber(value: $0) }
        guard memory == .pixelBuffer, type == .float16, let width = shape.last else {
            return try MLMultiArray(shape: sizes, dataType: type)
        }
        let buffer = try pixelBuffer(
            width: width, height: shape.dropLast().reduce(1, *), format: kCVPixelFormatType_OneComponent16Half)
        return MLMultiArray(pixelBuffer: buffer, shape: sizes)
    }

    static func pixelBuffer(width: Int, height: Int, format: OSType) throws -> CVPixelBuffer {
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as [String: Any]
        var created: CVPixelBuffer?
        let status = CVPixelBufferCreate(
            kCFAllocatorDefault, width, height, format, attributes as CFDictionary, &created)
        guard status == kCVReturnSuccess, let created else {
            throw BenchFailure(
                stage: "inputs", code: String(status), domain: "CoreVideo",
                message: "cannot make a pixel buffer of \(width)x\(height)")
        }
        return created
    }

    /// Calls `body` with every row and the memory of its pixels.
    static func write(_ buffer: CVPixelBuffer, _ body: (Int, UnsafeMutablePointer<UInt8>) -> Void) throws {
        guard CVPixelBufferLockBaseAddress(buffer, []) == kCVReturnSuccess,
            let base = CVPixelBufferGetBaseAddress(buffer)
        else { throw BenchFailure(stage: "inputs", code: "lock", message: "cannot lock a new pixel buffer") }
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        let bytesPerRow = CVPixelBufferGetBytesPerRow(buffer)
        for row in 0..<CVPixelBufferGetHeight(buffer) {
            body(row, (base + row * bytesPerRow).assumingMemoryBound(to: UInt8.self))
        }
    }
}
