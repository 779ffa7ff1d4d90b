/// A tensor in memory that somebody else owns, with any strides; valid as long as the memory is.
///
/// Rows may be padded, and dimensions may have stride 0, as Core ML's arrays have.
public struct TensorView {
    public let layout: TensorLayout
    let bytes: UnsafeRawBufferPointer

    /// - Throws: `TensorError` when an element would lie outside `bytes`.
    public init(
        bytes: UnsafeRawBufferPointer, shape: [Int], strides: [Int], type: ElementType
    ) throws(TensorError) {
        layout = try TensorLayout(shape: shape, strides: strides, type: type)
        try layout.check(byteCount: bytes.count)
        self.bytes = bytes
    }

    /// A dense, row-major copy as float32; 64-bit numbers are rounded to the nearest.
    public func floats() -> [Float] {
        [Float](unsafeUninitializedCapacity: layout.count) { target, count in
            if let base = bytes.baseAddress, let to = target.baseAddress {
                layout.eachRow { from, at, length, step in
                    let row = base + from * layout.type.byteCount
                    TensorElements.read(row, step: step, type: layout.type, into: to + at, count: length)
                }
            }
            count = layout.count
        }
    }

    /// One element as float32.
    public func value(at index: [Int]) throws(TensorError) -> Float {
        let offset = try layout.offset(of: index)
        var value: Float = 0
        if let base = bytes.baseAddress {
            let element = base + offset * layout.type.byteCount
            TensorElements.read(element, step: 1, type: layout.type, into: &value, count: 1)
        }
        return value
    }
}
