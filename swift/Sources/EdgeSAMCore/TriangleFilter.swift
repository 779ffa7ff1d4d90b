/// Resizing of 8-bit RGB with a triangle filter whose support grows when an image shrinks, bit for bit as Pillow's
/// `Image.resize(size, BILINEAR)` does it.
///
/// Horizontal pass, rounded to 8 bits, then vertical pass; a side that keeps its length is left alone. Coefficients are
/// computed in double precision and rounded to fixed point.
enum TriangleFilter {
    /// Fraction bits of the coefficients: a 32-bit sum holds 8 bits of image and 2 bits of room beside them.
    static let fractionBits: Int32 = 32 - 8 - 2
    private static let half: Int32 = 1 << (fractionBits - 1)

    /// Which input pixels make each output pixel, and how much of each.
    struct Taps {
        var first: [Int] = []
        var count: [Int] = []
        /// `width` coefficients for each output pixel, the unused ones 0.
        var weights: [Int32] = []
        let width: Int

        init(from length: Int, to newLength: Int) {
            let scale = Double(length) / Double(newLength)
            let support = max(scale, 1)
            width = Int(support.rounded(.up)) * 2 + 1
            weights.reserveCapacity(width * newLength)
            for index in 0..<newLength {
                let centre = (Double(index) + 0.5) * scale
                let low = max(0, Int(centre - support + 0.5))
                let high = min(length, Int(centre + support + 0.5))
                let parts = (low..<high).map { max(0, 1 - abs((Double($0) - centre + 0.5) * (1 / support))) }
                let sum = parts.reduce(0, +)
                first.append(low)
                count.append(high - low)
                weights += parts.map { Int32($0 / sum * Double(1 << fractionBits) + 0.5) }
                weights += [Int32](repeating: 0, count: width - parts.count)
            }
        }
    }

    static func resize(_ pixels: [UInt8], from size: PixelSize, to newSize: PixelSize) -> [UInt8] {
        var pixels = pixels
        if newSize.width != size.width {
            pixels = horizontal(pixels, width: size.width, height: size.height, newWidth: newSize.width)
        }
        if newSize.height != size.height {
            pixels = vertical(pixels, width: newSize.width, height: size.height, newHeight: newSize.height)
        }
        return pixels
    }

    private static func horizontal(_ pixels: [UInt8], width: Int, height: Int, newWidth: Int) -> [UInt8] {
        let taps = Taps(from: width, to: newWidth)
        return filled(newWidth * height * 3) { target in
            reading(pixels, taps) { source, first, count, weights in
                var at = 0
                for row in 0..<height {
                    let start = row * width * 3
                    for column in 0..<newWidth {
                        var (red, green, blue) = (half, half, half)
                        var from = start + first[column] * 3
                        let coefficients = weights + column * taps.width
                        for tap in 0..<count[column] {
                            let weight = coefficients[tap]
                            red &+= Int32(source[from]) &* weight
                            green &+= Int32(source[from + 1]) &* weight
                            blue &+= Int32(source[from + 2]) &* weight
                            from += 3
                        }
                        target[at] = byte(red)
                        target[at + 1] = byte(green)
                        target[at + 2] = byte(blue)
                        at += 3
                    }
                }
            }
        }
    }

    private static func vertical(_ pixels: [UInt8], width: Int, height: Int, newHeight: Int) -> [UInt8] {
        let taps = Taps(from: height, to: newHeight)
        let stride = width * 3
        return filled(stride * newHeight) { target in
            // Sums of one row, so that the inner loop walks along rows and vectorises.
            withUnsafeTemporaryAllocation(of: Int32.self, capacity: stride) { sums in
                guard let sums = sums.baseAddress else { return }
                reading(pixels, taps) { source, first, count, weights in
                    for row in 0..<newHeight {
                        sums.update(repeating: half, count: stride)
                        for tap in 0..<count[row] {
                            let weight = weights[row * taps.width + tap]
                            let from = source + (first[row] + tap) * stride
                            for at in 0..<stride { sums[at] &+= Int32(from[at]) &* weight }
                        }
                        let to = target + row * stride
                        for at in 0..<stride { to[at] = byte(sums[at]) }
                    }
                }
            }
        }
    }

    /// The 8-bit value of a sum. Weights are not negative and add up to 1, so only the upper end can be passed.
    @inline(__always)
    private static func byte(_ sum: Int32) -> UInt8 {
        UInt8(truncatingIfNeeded: min(sum &>> fractionBits, 255))
    }

    private static func filled(_ count: Int, _ fill: (UnsafeMutablePointer<UInt8>) -> Void) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { target, initialized in
            if let base = target.baseAddress { fill(base) }
            initialized = count
        }
    }

    private static func reading(
        _ pixels: [UInt8], _ taps: Taps,
        _ body: (UnsafePointer<UInt8>, UnsafePointer<Int>, UnsafePointer<Int>, UnsafePointer<Int32>) -> Void
    ) {
        pixels.withUnsafeBufferPointer { source in
            taps.first.withUnsafeBufferPointer { first in
                taps.count.withUnsafeBufferPointer { count in
                    taps.weights.withUnsafeBufferPointer { weights in
                        guard let source = source.baseAddress, let first = first.baseAddress,
                            let count = count.baseAddress, let weights = weights.baseAddress
                        else { return }
                        body(source, first, count, weights)
                    }
                }
            }
        }
    }
}
