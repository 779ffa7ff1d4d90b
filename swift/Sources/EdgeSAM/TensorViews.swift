@preconcurrency import CoreML
import EdgeSAMCore

/// Core ML's arrays as tensors, whatever their strides; the benchmark reads its arrays the same way.
extension MLMultiArray {
    package var sizes: [Int] { shape.map(\.intValue) }

    /// Calls `body` with the values, valid until it returns.
    ///
    /// - Throws: `EdgeSAMError.elementType` for a type that models of this tool do not have.
    package func withTensor<Result>(_ body: (TensorView) throws -> Result) throws -> Result {
        let (sizes, type) = (sizes, try elementType)
        let reported = strides.map(\.intValue)
        let strides = Self.readable(strides: reported, shape: sizes)
        return try withUnsafeBytes { bytes in
            // Core ML counts the bytes as the first stride times the first size: none where it reports no strides.
            guard strides != reported else {
                return try body(TensorView(bytes: bytes, shape: sizes, strides: strides, type: type))
            }
            let layout = try TensorLayout(shape: sizes, strides: strides, type: type)
            let all = UnsafeRawBufferPointer(start: dataPointer, count: layout.byteCount)
            return try body(TensorView(bytes: all, shape: sizes, strides: strides, type: type))
        }
    }

    /// Write row-major values.
    package func store(_ values: [Float]) throws {
        let (sizes, type) = (sizes, try elementType)
        try withUnsafeMutableBytes { bytes, strides in
            try MutableTensorView(bytes: bytes, shape: sizes, strides: strides, type: type).store(values)
        }
    }

    /// Strides to read with: zeros throughout were reported of dense outputs, and no output repeats one element.
    static func readable(strides: [Int], shape: [Int]) -> [Int] {
        strides.allSatisfy { $0 == 0 } ? TensorLayout.contiguousStrides(shape) : strides
    }

    private var elementType: ElementType {
        get throws(EdgeSAMError) {
            switch dataType {
            case .float16: return .float16
            case .float32: return .float32
            case .double: return .float64
            case .int32: return .int32
            default: throw .elementType(code: dataType.rawValue)
            }
        }
    }
}
