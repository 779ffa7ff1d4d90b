@preconcurrency import CoreML
import CoreVideo
import EdgeSAMCore
import Foundation

/// Memory of inputs and outputs that later predictions use again.
///
/// Whoever takes something alone may write to it until it is given back.  What a failed or cancelled prediction had is
/// not given back: Core ML may still be at it.
///
/// Unchecked: what is free is only used under `lock`.
final class MemoryPool: @unchecked Sendable {
    /// Most pieces of one kind that are kept: predictions that overlap more widely make their own.
    private static let kept = 4

    private struct Kind: Hashable {
        let shape: [Int]
        let type: Int
    }

    private let lock = NSLock()
    private var arrays: [Kind: [MLMultiArray]] = [:]
    private var images: [PixelSize: [CVPixelBuffer]] = [:]

    /// An array of undefined values; half precision in a surface, which the Neural Engine takes without a copy.
    func array(shape: [Int], type: MLMultiArrayDataType) throws -> MLMultiArray {
        let kind = Kind(shape: shape, type: type.rawValue)
        if let free = lock.withLock({ arrays[kind]?.popLast() }) { return free }
        let sizes = shape.map { NSNumber(value: $0) }
        // Rows of a surface are padded to 64 bytes, which is much for arrays as narrow as coordinates.
        if type == .float16, let width = shape.last, width >= 32,
            let surface = try? PixelBuffers.make(
                width: width, height: shape.dropLast().reduce(1, *), format: kCVPixelFormatType_OneComponent16Half)
        {
            return MLMultiArray(pixelBuffer: surface, shape: sizes)
        }
        return try MLMultiArray(shape: sizes, dataType: type)
    }

    /// A 32BGRA image of undefined pixels.
    func image(_ size: PixelSize) throws(EdgeSAMError) -> CVPixelBuffer {
        if let free = lock.withLock({ images[size]?.popLast() }) { return free }
        return try PixelBuffers.make(width: size.width, height: size.height, format: kCVPixelFormatType_32BGRA)
    }

    func giveBack(_ array: MLMultiArray) {
        let kind = Kind(shape: array.sizes, type: array.dataType.rawValue)
        lock.withLock {
            if arrays[kind, default: []].count < Self.kept { arrays[kind, default: []].append(array) }
        }
    }

    func giveBack(_ image: CVPixelBuffer) {
        let size = PixelSize(width: CVPixelBufferGetWidth(image), height: CVPixelBufferGetHeight(image))
        lock.withLock {
            if images[size, default: []].count < Self.kept { images[size, default: []].append(image) }
        }
    }
}

/// An array that nobody writes to any more, given back to its pool when the last user is gone.
///
/// Unchecked: it is only read.
final class SharedTensor: @unchecked Sendable {
    let array: MLMultiArray
    private weak var pool: MemoryPool?

    init(_ array: MLMultiArray, pool: MemoryPool? = nil) {
        self.array = array
        self.pool = pool
    }

    deinit { pool?.giveBack(array) }

    /// A dense, row-major copy as float32.
    func floats() throws -> [Float] { try array.withTensor { $0.floats() } }
}
