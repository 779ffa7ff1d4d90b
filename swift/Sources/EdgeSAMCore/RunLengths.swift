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

    /// `counts` as COCO's files hold them in one string: `mask.rle().compressed` is what pycocotools' `encode` gives.
    ///
    /// From the fourth run on, the difference to the run two before; each number in groups of five bits, the lowest first,
    /// with a bit for "more follow", as characters from "0" on.
    public var compressed: String {
        var characters: [UInt8] = []
        for (index, count) in counts.enumerated() {
            var rest = index > 2 ? count - counts[index - 2] : count
            var more = true
            while more {
                let group = UInt8(rest & 0x1F)
                rest >>= 5
                // The highest bit of the last group is the sign.
                more = group & 0x10 != 0 ? rest != -1 : rest != 0
                characters.append(group + (more ? 0x20 : 0) + 48)
            }
        }
        return String(decoding: characters, as: UTF8.self)
    }

    /// Read the string of a COCO file; column-major.
    ///
    /// - Throws: `MaskError.compressed` when the string is cut off, holds other characters or a negative run.
    public init(size: PixelSize, compressed: String) throws(MaskError) {
        var counts: [Int] = []
        var (value, shift) = (0, 0)
        for (index, character) in compressed.utf8.enumerated() {
            // Twelve groups hold more than any run of an image.
            guard (48..<112).contains(character), shift < 60 else { throw .compressed(index: index) }
            let group = Int(character) - 48
            value |= (group & 0x1F) << shift
            shift += 5
            if group & 0x20 != 0 { continue }
            if group & 0x10 != 0 { value |= -1 << shift }
            let run = counts.count > 2 ? value + counts[counts.count - 2] : value
            guard (0...RGBImage.mostPixels).contains(run) else { throw .compressed(index: index) }
            counts.append(run)
            (value, shift) = (0, 0)
        }
        guard shift == 0 else { throw .compressed(index: compressed.utf8.count) }
        self.init(size: size, counts: counts)
    }
}
