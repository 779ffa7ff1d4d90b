@preconcurrency import CoreML
import EdgeSAMCore

/// What a network is given for one input, by value.
enum NetworkInput: Sendable {
    /// Red, green, blue bytes of a square picture.
    case picture(rgb: [UInt8], side: Int)
    /// Row-major values, converted to `type`.
    case tensor([Float], shape: [Int], type: ElementType)

    /// The input as Core ML takes it; memory of its own.
    func feature() throws -> MLFeatureValue {
        switch self {
        case .picture(let rgb, let side):
            return MLFeatureValue(pixelBuffer: try PixelBuffers.bgra(rgb: rgb, width: side, height: side))
        case .tensor(let values, let shape, let type):
            let array = try MLMultiArray(
                shape: shape.map { NSNumber(value: $0) }, dataType: type == .float16 ? .float16 : .float32)
            try array.withUnsafeMutableBytes { bytes, strides in
                let view = try MutableTensorView(bytes: bytes, shape: shape, strides: strides, type: type)
                try view.store(values)
            }
            return MLFeatureValue(multiArray: array)
        }
    }
}
