import Foundation

/// A mask as lengths of runs, the first one of zeros, as COCO's uncompressed RLE (column-major) has it.
public struct RunLengths: Sendable, Hashable {
    /// Order in which the pixels are walked.
    public enum Order: Sendable, Hashable {
        case rowMajor
        case columnMajor
    }

    public let size: PixelSize
    public let order: Order
    /// Lengths of runs of 0, 1, 0, 1 ...; the first is 0 when the first pixel is set.
    public let counts: [Int]

    public init(size: PixelSize, order: Order = .columnMajor, counts: [Int]) {
        self.size = size
        self.order = order
        self.counts = counts
    }
}
