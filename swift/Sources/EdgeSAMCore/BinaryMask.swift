import Foundation

/// A mask of zeros and ones.
public struct BinaryMask: Sendable, Hashable {
    /// Whole pixels; `x1` and `y1` are the first column and row after the mask.
    public struct BoundingBox: Sendable, Hashable {
        public let x0: Int
        public let y0: Int
        public let x1: Int
        public let y1: Int

        public init(x0: Int, y0: Int, x1: Int, y1: Int) {
            self.x0 = x0
            self.y0 = y0
            self.x1 = x1
            self.y1 = y1
        }
    }

    public let size: PixelSize
    /// 0 or 1 for each pixel, row-major.
    public let bits: [UInt8]

    /// - Throws: `MaskError` when `bits` has another length or holds something else than 0 and 1.
    public init(size: PixelSize, bits: [UInt8]) throws(MaskError) {
        try Self.check(size, values: bits.count)
        guard bits.count == size.area else { throw .size(size, values: bits.count) }
        if let index = bits.firstIndex(where: { $0 > 1 }) { throw .value(bits[index], index: index) }
        self.size = size
        self.bits = bits
    }

    /// - Throws: `MaskError` when the runs do not fill the mask exactly.
    public init(rle: RunLengths) throws(MaskError) {
        let size = rle.size
        try Self.check(size, values: 0)
        var walked = [UInt8](repeating: 0, count: size.area)
        var start = 0
        for (run, length) in rle.counts.enumerated() {
            // Only the first run, of zeros, may be empty.
            guard length >= (run == 0 ? 0 : 1), length <= size.area - start else { throw .runs(size: size, run: run) }
            if run % 2 == 1 { for at in start..<start + length { walked[at] = 1 } }
            start += length
        }
        guard start == size.area else { throw .runs(size: size, run: rle.counts.count) }
        self.size = size
        bits = rle.order == .rowMajor ? walked : Self.transposed(walked, rows: size.width, columns: size.height)
    }

    /// Bits that are known to be 0 or 1, one for each pixel.
    init(size: PixelSize, checked bits: [UInt8]) {
        self.size = size
        self.bits = bits
    }

    /// Number of pixels set.
    public var area: Int {
        bits.withUnsafeBufferPointer { bits in
            var sum = 0
            for bit in bits { sum &+= Int(bit) }
            return sum
        }
    }

    /// Smallest box around the pixels set, nil without any.
    public var boundingBox: BoundingBox? {
        var (x0, y0, x1, y1) = (size.width, size.height, 0, 0)
        bits.withUnsafeBufferPointer { bits in
            for y in 0..<size.height {
                let row = UnsafeBufferPointer(rebasing: bits[y * size.width..<(y + 1) * size.width])
                guard let first = row.firstIndex(of: 1), let last = row.lastIndex(of: 1) else { continue }
                x0 = min(x0, first)
                x1 = max(x1, last + 1)
                y0 = min(y0, y)
                y1 = y + 1
            }
        }
        return x1 == 0 ? nil : BoundingBox(x0: x0, y0: y0, x1: x1, y1: y1)
    }

    /// Lengths of runs; column-major as in COCO unless said otherwise.
    public func rle(order: RunLengths.Order = .columnMajor) -> RunLengths {
        let walked = order == .rowMajor ? bits : Self.transposed(bits, rows: size.height, columns: size.width)
        var counts: [Int] = []
        walked.withUnsafeBufferPointer { walked in
            var (current, start) = (UInt8(0), 0)
            for (index, bit) in walked.enumerated() where bit != current {
                counts.append(index - start)
                (current, start) = (bit, index)
            }
            counts.append(walked.count - start)
        }
        return RunLengths(size: size, order: order, counts: counts)
    }

    private static func check(_ size: PixelSize, values: Int) throws(MaskError) {
        guard size.width > 0, size.height > 0, !size.width.multipliedReportingOverflow(by: size.height).overflow,
            size.area <= RGBImage.mostPixels
        else { throw .size(size, values: values) }
    }

    private static func transposed(_ bits: [UInt8], rows: Int, columns: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: bits.count) { target, count in
            bits.withUnsafeBufferPointer { bits in
                // Square blocks: one of the two sides always jumps, and a block's lines stay in the cache.
                let block = 64
                for top in stride(from: 0, to: rows, by: block) {
                    for left in stride(from: 0, to: columns, by: block) {
                        for column in left..<min(left + block, columns) {
                            for row in top..<min(top + block, rows) {
                                target[column * rows + row] = bits[row * columns + column]
                            }
                        }
                    }
                }
            }
            count = bits.count
        }
    }
}
