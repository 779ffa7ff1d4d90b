/// Conversion between rows of elements in memory and float32. Memory need not be aligned.
enum TensorElements {
    static func read(
        _ row: UnsafeRawPointer, step: Int, type: ElementType, into target: UnsafeMutablePointer<Float>, count: Int
    ) {
        func each<T: BitwiseCopyable>(_: T.Type, _ convert: (T) -> Float) {
            let stride = step * MemoryLayout<T>.size
            for index in 0..<count {
                target[index] = convert((row + index * stride).loadUnaligned(as: T.self))
            }
        }
        switch type {
        case .float16: each(UInt16.self) { HalfBits.float(UInt16(littleEndian: $0)) }
        case .float32: each(UInt32.self) { Float(bitPattern: UInt32(littleEndian: $0)) }
        case .float64: each(UInt64.self) { Float(Double(bitPattern: UInt64(littleEndian: $0))) }
        case .int32: each(Int32.self) { Float(Int32(littleEndian: $0)) }
        case .int64: each(Int64.self) { Float(Int64(littleEndian: $0)) }
        case .uint8: each(UInt8.self) { Float($0) }
        case .int8: each(Int8.self) { Float($0) }
        case .bool: each(UInt8.self) { $0 == 0 ? 0 : 1 }
        }
    }

    static func write(
        _ source: UnsafePointer<Float>, count: Int, type: ElementType, to row: UnsafeMutableRawPointer, step: Int
    ) {
        func each<T: BitwiseCopyable>(_ convert: (Float) -> T) {
            let stride = step * MemoryLayout<T>.size
            for index in 0..<count {
                (row + index * stride).storeBytes(of: convert(source[index]), as: T.self)
            }
        }
        switch type {
        case .float16: each { HalfBits.bits($0).littleEndian }
        case .float32: each { $0.bitPattern.littleEndian }
        case .float64: each { Double($0).bitPattern.littleEndian }
        case .int32: each { whole($0, Int32.self).littleEndian }
        case .int64: each { whole($0, Int64.self).littleEndian }
        case .uint8: each { whole($0, UInt8.self) }
        case .int8: each { whole($0, Int8.self) }
        case .bool: each { $0 == 0 ? UInt8(0) : 1 }
        }
    }

    /// The nearest integer that fits, ties to even; NaN is 0.
    private static func whole<T: FixedWidthInteger>(_ value: Float, _: T.Type) -> T {
        let rounded = value.rounded(.toNearestOrEven)
        if let exact = T(exactly: rounded) { return exact }
        return rounded.isNaN ? 0 : rounded < 0 ? .min : .max
    }
}
