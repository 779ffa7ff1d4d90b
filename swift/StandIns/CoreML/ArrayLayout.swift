/// Where the elements of an array lie: shape and strides in elements.
struct ArrayLayout: Equatable {
    /// Rows of what the Neural Engine returns start at multiples of this many bytes.
    static let alignment = 64
    static let maximumBytes = 1 << 34

    let shape: [Int]
    let strides: [Int]
    let dataType: MLMultiArrayDataType
    let count: Int
    /// From the first element to the end of the last row, its padding included.
    let byteCount: Int

    init(shape: [Int], strides: [Int], dataType: MLMultiArrayDataType) throws {
        guard shape.count == strides.count, shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }) else {
            throw MLModelError(
                .parameters,
                message: "strides \(strides) do not fit shape \(shape): one for each dimension, none negative")
        }
        self.shape = shape
        self.strides = strides
        self.dataType = dataType
        count = try Self.product(shape)
        let size = Self.elementSize(dataType)
        var elements = count == 0 ? 0 : 1
        for (length, stride) in zip(shape, strides) where count > 0 {
            elements = max(elements, try Self.product([length, stride]))
        }
        let last = count == 0 ? 0 : try zip(shape, strides).reduce(1) { try $0 + Self.product([$1.0 - 1, $1.1]) }
        byteCount = max(elements, last) * size
    }

    init(dense shape: [Int], dataType: MLMultiArrayDataType) throws {
        try self.init(shape: shape, rowStride: shape.last ?? 1, dataType: dataType)
    }

    /// Rows `rowStride` elements apart, everything else dense.
    init(shape: [Int], rowStride: Int, dataType: MLMultiArrayDataType) throws {
        var strides = [Int](repeating: 1, count: shape.count)
        var next = max(rowStride, 1)
        for axis in strides.indices.dropLast().reversed() {
            strides[axis] = next
            next = try Self.product([next, max(shape[axis], 1)])
        }
        try self.init(shape: shape, strides: strides, dataType: dataType)
    }

    /// Rows padded to a multiple of 64 bytes.
    init(padded shape: [Int], dataType: MLMultiArrayDataType) throws {
        let unit = Self.alignment / Self.elementSize(dataType)
        try self.init(shape: shape, rowStride: ((shape.last ?? 1) + unit - 1) / unit * unit, dataType: dataType)
    }

    var elementSize: Int { Self.elementSize(dataType) }

    static func elementSize(_ dataType: MLMultiArrayDataType) -> Int {
        switch dataType {
        case .double: 8
        case .float32, .int32: 4
        case .float16: 2
        case .int8: 1
        }
    }

    func offset(index: [Int]) -> Int {
        precondition(index.count == shape.count, "MLMultiArray: index \(index) does not fit shape \(shape)")
        var offset = 0
        for axis in index.indices {
            precondition(shape[axis] > index[axis] && index[axis] >= 0, "MLMultiArray: index \(index) in \(shape)")
            offset += index[axis] * strides[axis]
        }
        return offset
    }

    func offset(linear index: Int) -> Int {
        precondition(index >= 0 && index < count, "MLMultiArray: index \(index) in \(count) elements")
        var rest = index
        var offset = 0
        for axis in shape.indices.reversed() {
            offset += rest % shape[axis] * strides[axis]
            rest /= shape[axis]
        }
        return offset
    }

    /// Whether elements of a row are neighbours, and rows, planes and so on do not overlap.
    var isRowMajor: Bool {
        var least = 1
        for (axis, (length, stride)) in zip(shape, strides).enumerated().reversed() where length != 1 {
            guard axis == shape.count - 1 ? stride == 1 : stride >= least else { return false }
            least = length * stride
        }
        return true
    }

    /// Calls `body` with the stretches of neighbouring elements in row-major order: the offset of the first in memory,
    /// how many elements came before it, and how many there are.
    func forEachRun(_ body: (_ offset: Int, _ index: Int, _ count: Int) -> Void) {
        guard count > 0 else { return }
        var run = 1
        var axes = shape.count
        while axes > 0, shape[axes - 1] == 1 || strides[axes - 1] == run {
            run *= shape[axes - 1]
            axes -= 1
        }
        var position = [Int](repeating: 0, count: axes)
        var offset = 0
        for index in stride(from: 0, to: count, by: run) {
            body(offset, index, run)
            var axis = axes - 1
            while axis >= 0 {
                position[axis] += 1
                offset += strides[axis]
                if position[axis] < shape[axis] { break }
                offset -= position[axis] * strides[axis]
                position[axis] = 0
                axis -= 1
            }
        }
    }

    private static func product(_ sizes: [Int]) throws -> Int {
        var result = 1
        for size in sizes {
            let (value, overflow) = result.multipliedReportingOverflow(by: size)
            guard !overflow, value <= maximumBytes else {
                throw MLModelError(.parameters, message: "an array of shape \(sizes) is too large")
            }
            result = value
        }
        return result
    }
}
