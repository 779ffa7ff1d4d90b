/// Resizing of 8-bit RGB from the four nearest pixels, half-pixel centres, edges repeated, no antialiasing.
///
/// Fixed point with 11 bits for each axis; halves are rounded up.
enum BilinearFilter {
    private static let bits: Int32 = 11
    private static let one: Int32 = 1 << bits

    /// Both neighbours of each output position on one axis, as offsets, and the share of the second one.
    private struct Taps {
        var low: [Int] = []
        var high: [Int] = []
        var share: [Int32] = []

        init(from length: Int, to newLength: Int, step: Int) {
            for index in 0..<newLength {
                let position = max(0, (Double(index) + 0.5) * (Double(length) / Double(newLength)) - 0.5)
                let first = min(Int(position), length - 1)
                low.append(first * step)
                high.append(min(first + 1, length - 1) * step)
                share.append(Int32(((position - Double(first)) * Double(one)).rounded()))
            }
        }
    }

    static func resize(_ pixels: [UInt8], from size: PixelSize, to newSize: PixelSize) -> [UInt8] {
        if size == newSize { return pixels }
        let across = Taps(from: size.width, to: newSize.width, step: 3)
        let down = Taps(from: size.height, to: newSize.height, step: size.width * 3)
        return [UInt8](unsafeUninitializedCapacity: newSize.area * 3) { target, count in
            pixels.withUnsafeBufferPointer { source in
                var next = 0
                for y in 0..<newSize.height {
                    let (top, bottom, share) = (down.low[y], down.high[y], down.share[y])
                    for x in 0..<newSize.width {
                        let (left, right, part) = (across.low[x], across.high[x], across.share[x])
                        for channel in 0..<3 {
                            let upper =
                                Int32(source[top + left + channel]) &* (one &- part)
                                &+ Int32(source[top + right + channel]) &* part
                            let lower =
                                Int32(source[bottom + left + channel]) &* (one &- part)
                                &+ Int32(source[bottom + right + channel]) &* part
                            let sum = upper &* (one &- share) &+ lower &* share
                            target[next] = UInt8(truncatingIfNeeded: (sum &+ (1 << (2 * bits - 1))) &>> (2 * bits))
                            next += 1
                        }
                    }
                }
            }
            count = newSize.area * 3
        }
    }
}
