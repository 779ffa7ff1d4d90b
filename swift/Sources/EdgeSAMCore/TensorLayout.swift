/// Shape, strides and element type of a tensor in memory.
public struct TensorLayout: Sendable, Hashable {
    public let shape: [Int]
    /// Steps between neighbours of each dimension, in elements.
    public let strides: [Int]
    public let type: ElementType
    /// Number of elements.
    public let count: Int
    /// Bytes from the first element to the end of the last one.
    public let byteCount: Int

    /// - Throws: `TensorError` when sizes or strides are negative, do not match or overflow.
    public init(shape: [Int], strides: [Int], type: ElementType) throws(TensorError) {
        guard shape.count == strides.count else { throw .rank(shape: shape, strides: strides) }
        guard (shape + strides).allSatisfy({ $0 >= 0 }) else { throw .negative(shape: shape, strides: strides) }
        var (count, last) = (1, 0)
        for (size, stride) in zip(shape, strides) {
            let (product, overflow) = count.multipliedReportingOverflow(by: size)
            let (step, stepOverflow) = stride.multipliedReportingOverflow(by: max(0, size - 1))
            let (end, endOverflow) = last.addingReportingOverflow(step)
            if overflow || stepOverflow || endOverflow { throw .tooLarge(shape: shape) }
            (count, last) = (product, end)
        }
        let (bytes, overflow) = last.multipliedReportingOverflow(by: type.byteCount)
        if overflow || bytes > Int.max - type.byteCount { throw .tooLarge(shape: shape) }
        self.shape = shape
        self.strides = strides
        self.type = type
        self.count = count
        byteCount = count == 0 ? 0 : bytes + type.byteCount
    }

    /// Row-major without gaps.
    public init(shape: [Int], type: ElementType) throws(TensorError) {
        try self.init(shape: shape, strides: Self.contiguousStrides(shape), type: type)
    }

    /// Strides of a row-major tensor without gaps.
    public static func contiguousStrides(_ shape: [Int]) -> [Int] {
        var strides = [Int](repeating: 1, count: shape.count)
        for axis in shape.indices.dropLast().reversed() {
            strides[axis] = strides[axis + 1].multipliedReportingOverflow(by: max(1, shape[axis + 1])).partialValue
        }
        return strides
    }

    /// Whether the elements lie row-major without gaps; strides of dimensions of size 1 do not matter.
    public var isContiguous: Bool {
        var expected = 1
        for axis in shape.indices.reversed() where shape[axis] != 1 {
            if strides[axis] != expected { return false }
            expected *= shape[axis]
        }
        return true
    }

    /// - Throws: `TensorError` when fewer bytes are given than the tensor reaches over.
    func check(byteCount given: Int) throws(TensorError) {
        guard byteCount <= given else {
            throw .outOfBounds(shape: shape, strides: strides, needed: byteCount, given: given)
        }
    }

    /// Where an element lies, in elements from the first one.
    func offset(of index: [Int]) throws(TensorError) -> Int {
        guard index.count == shape.count, zip(index, shape).allSatisfy({ $0 >= 0 && $0 < $1 }) else {
            throw .index(index, shape: shape)
        }
        return zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 }
    }

    /// Calls `body` for each run along the last dimension that is longer than 1, in row-major order; once for a
    /// contiguous tensor.
    ///
    /// `body` gets the run's place in memory in elements, its place in a dense copy, its length and its step.
    func eachRow(_ body: (_ offset: Int, _ denseOffset: Int, _ length: Int, _ step: Int) -> Void) {
        if count == 0 { return }
        if isContiguous { return body(0, 0, count, 1) }
        let axes = shape.indices.filter { shape[$0] != 1 }
        guard let row = axes.last else { return body(0, 0, 1, 1) }
        let outer = axes.dropLast()
        var index = [Int](repeating: 0, count: shape.count)
        var offset = 0
        for start in stride(from: 0, to: count, by: shape[row]) {
            body(offset, start, shape[row], strides[row])
            for axis in outer.reversed() {
                index[axis] += 1
                offset += strides[axis]
                if index[axis] < shape[axis] { break }
                offset -= strides[axis] * shape[axis]
                index[axis] = 0
            }
        }
    }
}
