/// Numbers in memory with a shape and, in elements, a stride for each dimension.
///
/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmultiarray>.
public class MLMultiArray: NSObject {
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/datatype>
    public let dataType: MLMultiArrayDataType
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/shape>
    public let shape: [NSNumber]
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/strides>
    public let strides: [NSNumber]
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/datapointer>
    public let dataPointer: UnsafeMutableRawPointer
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/pixelbuffer>
    public let pixelBuffer: CVPixelBuffer?

    let layout: ArrayLayout
    private let deallocator: ((UnsafeMutableRawPointer) -> Void)?

    init(
        layout: ArrayLayout, dataPointer: UnsafeMutableRawPointer, pixelBuffer: CVPixelBuffer? = nil,
        deallocator: ((UnsafeMutableRawPointer) -> Void)?
    ) {
        self.layout = layout
        self.dataPointer = dataPointer
        self.pixelBuffer = pixelBuffer
        self.deallocator = deallocator
        dataType = layout.dataType
        shape = layout.shape.map { NSNumber(value: $0) }
        strides = layout.strides.map { NSNumber(value: $0) }
        super.init()
    }

    deinit {
        deallocator?(dataPointer)
    }

    /// Makes a dense array.  What it holds at first is not defined; here it is NaN, so that nobody relies on zeros.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/init(shape:datatype:)>
    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        self.init(allocating: try ArrayLayout(dense: shape.map(\.intValue), dataType: dataType))
    }

    /// Makes an array with gaps.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/init(shape:datatype:strides:)>
    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType, strides: [NSNumber]) {
        guard
            let layout = try? ArrayLayout(
                shape: shape.map(\.intValue), strides: strides.map(\.intValue), dataType: dataType)
        else { preconditionFailure("MLMultiArray: strides \(strides) do not fit shape \(shape)") }
        self.init(allocating: layout)
    }

    /// Uses memory of the caller's.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/init(datapointer:shape:datatype:strides:deallocator:)>
    public convenience init(
        dataPointer: UnsafeMutableRawPointer, shape: [NSNumber], dataType: MLMultiArrayDataType, strides: [NSNumber],
        deallocator: ((UnsafeMutableRawPointer) -> Void)? = nil
    ) throws {
        let layout = try ArrayLayout(
            shape: shape.map(\.intValue), strides: strides.map(\.intValue), dataType: dataType)
        self.init(layout: layout, dataPointer: dataPointer, deallocator: deallocator)
    }

    /// Uses the memory of an image with one half-precision number a pixel: the last dimension is its width, the others
    /// together are its height.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/init(pixelbuffer:shape:)>
    public convenience init(pixelBuffer: CVPixelBuffer, shape: [NSNumber]) {
        let sizes = shape.map(\.intValue)
        precondition(
            CVPixelBufferGetPixelFormatType(pixelBuffer) == kCVPixelFormatType_OneComponent16Half,
            "MLMultiArray: the pixel buffer must have the format OneComponent16Half")
        precondition(
            sizes.last == CVPixelBufferGetWidth(pixelBuffer)
                && sizes.dropLast().reduce(1, *) == CVPixelBufferGetHeight(pixelBuffer),
            "MLMultiArray: shape \(sizes) does not fit a pixel buffer of \(CVPixelBufferGetWidth(pixelBuffer))x"
                + "\(CVPixelBufferGetHeight(pixelBuffer))")
        guard
            let address = CVPixelBufferGetBaseAddress(pixelBuffer),
            let layout = try? ArrayLayout(
                shape: sizes, rowStride: CVPixelBufferGetBytesPerRow(pixelBuffer) / 2, dataType: .float16)
        else { preconditionFailure("MLMultiArray: no memory behind the pixel buffer") }
        self.init(layout: layout, dataPointer: address, pixelBuffer: pixelBuffer, deallocator: nil)
    }

    convenience init(allocating layout: ArrayLayout) {
        let bytes = max(layout.byteCount, 1)
        let pointer = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: ArrayLayout.alignment)
        pointer.initializeMemory(as: UInt8.self, repeating: 0xFF, count: bytes)
        self.init(layout: layout, dataPointer: pointer) { $0.deallocate() }
    }

    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/count>
    public var count: Int { layout.count }

    /// Calls `body` with the memory, gaps included; as many bytes as Core ML counts, the first stride times the first
    /// size, which is none for an array without strides.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/withunsafebytes(_:)>
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(start: dataPointer, count: reportedByteCount))
    }

    private var reportedByteCount: Int {
        (layout.strides.first ?? 1) * (layout.shape.first ?? 1) * layout.elementSize
    }

    /// Calls `body` with all of the memory and the strides.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/withunsafemutablebytes(_:)>
    public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R {
        try body(UnsafeMutableRawBufferPointer(start: dataPointer, count: reportedByteCount), layout.strides)
    }

    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/withunsafebufferpointer(oftype:_:)>
    public func withUnsafeBufferPointer<S: MLShapedArrayScalar, R>(
        ofType type: S.Type, _ body: (UnsafeBufferPointer<S>) throws -> R
    ) rethrows -> R {
        precondition(S.multiArrayDataType == dataType, "MLMultiArray holds \(dataType), not \(S.self)")
        return try withUnsafeBytes { try body($0.bindMemory(to: S.self)) }
    }

    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/withunsafemutablebufferpointer(oftype:_:)>
    public func withUnsafeMutableBufferPointer<S: MLShapedArrayScalar, R>(
        ofType type: S.Type, _ body: (UnsafeMutableBufferPointer<S>, [Int]) throws -> R
    ) rethrows -> R {
        precondition(S.multiArrayDataType == dataType, "MLMultiArray holds \(dataType), not \(S.self)")
        return try withUnsafeMutableBytes { try body($0.bindMemory(to: S.self), $1) }
    }

    /// The element at a linear index, counted row after row without the gaps.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/subscript(_:)-2jzwx>
    public subscript(idx: Int) -> NSNumber {
        get { number(at: layout.offset(linear: idx)) }
        set { store(newValue, at: layout.offset(linear: idx)) }
    }

    /// The element at one index for each dimension.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarray/subscript(_:)-3iqqp>
    public subscript(key: [NSNumber]) -> NSNumber {
        get { number(at: layout.offset(index: key.map(\.intValue))) }
        set { store(newValue, at: layout.offset(index: key.map(\.intValue))) }
    }

    private func number(at offset: Int) -> NSNumber {
        let address = dataPointer + offset * layout.elementSize
        switch dataType {
        case .double: return NSNumber(value: address.loadUnaligned(as: Double.self))
        case .float32: return NSNumber(value: address.loadUnaligned(as: Float.self))
        case .float16: return NSNumber(value: Float(address.loadUnaligned(as: Float16.self)))
        case .int32: return NSNumber(value: address.loadUnaligned(as: Int32.self))
        case .int8: return NSNumber(value: address.loadUnaligned(as: Int8.self))
        }
    }

    private func store(_ number: NSNumber, at offset: Int) {
        let address = dataPointer + offset * layout.elementSize
        switch dataType {
        case .double: address.storeBytes(of: number.doubleValue, as: Double.self)
        case .float32: address.storeBytes(of: number.floatValue, as: Float.self)
        case .float16: address.storeBytes(of: Float16(number.floatValue), as: Float16.self)
        case .int32: address.storeBytes(of: number.int32Value, as: Int32.self)
        case .int8: address.storeBytes(of: number.int8Value, as: Int8.self)
        }
    }
}
