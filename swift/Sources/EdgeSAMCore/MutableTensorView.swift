/// A tensor in memory that somebody else owns, to be written; valid as long as the memory is.
public struct MutableTensorView {
    public let layout: TensorLayout
    let bytes: UnsafeMutableRawBufferPointer

    /// - Throws: `TensorError` when an element would lie outside `bytes`.
    public init(
        bytes: UnsafeMutableRawBufferPointer, shape: [Int], strides: [Int], type: ElementType
    ) throws(TensorError) {
        layout = try TensorLayout(shape: shape, strides: strides, type: type)
        try layout.check(byteCount: bytes.count)
        self.bytes = bytes
    }

    /// Write row-major values, one for each element, rounded to the nearest value of the element type, ties to even.
    ///
    /// Integers saturate and take NaN as 0; a bool is whether the value is not 0. Gaps between rows are left alone.
    public func store(_ values: [Float]) throws(TensorError) {
        guard values.count == layout.count else {
            throw .count(needed: layout.count, given: values.count, shape: layout.shape)
        }
        values.withUnsafeBufferPointer { source in
            guard let base = bytes.baseAddress, let from = source.baseAddress else { return }
            layout.eachRow { to, at, length, step in
                let row = base + to * layout.type.byteCount
                TensorElements.write(from + at, count: length, type: layout.type, to: row, step: step)
            }
        }
    }
}
