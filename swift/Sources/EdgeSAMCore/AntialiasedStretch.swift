/// Both sides of an image to one length: bilinear, antialiased where it shrinks, in double precision between the axes
/// and rounded to 8 bits once, halves to even. `stretched_with_antialiasing` in Python gives the same bytes.
enum AntialiasedStretch {
    static func resize(_ image: RGBImage, side: Int) -> [UInt8] {
        let across = Taps(from: image.width, to: side)
        let down = Taps(from: image.height, to: side)
        let stride = side * 3
        return [UInt8](unsafeUninitializedCapacity: stride * side) { target, count in
            // Rows at output width, kept while the next output row may need them.
            var rows: [Int: [Double]] = [:]
            for y in 0..<side {
                let needed = down.first[y]..<down.first[y] + down.weights[y].count
                rows = rows.filter { needed.contains($0.key) }
                var sums = [Double](repeating: 0, count: stride)
                for (row, weight) in zip(needed, down.weights[y]) {
                    let values = rows[row] ?? across.row(of: image, row)
                    rows[row] = values
                    for at in 0..<stride { sums[at] += values[at] * weight }
                }
                for at in 0..<stride { target[y * stride + at] = UInt8(sums[at].rounded(.toNearestOrEven)) }
            }
            count = stride * side
        }
    }

    /// The first source position of each output position on one axis, and the weights from there on; they add up to 1.
    private struct Taps {
        var first: [Int] = []
        var weights: [[Double]] = []

        init(from length: Int, to side: Int) {
            let scale = Double(length) / Double(side)
            let support = max(scale, 1)
            for index in 0..<side {
                let centre = (Double(index) + 0.5) * scale
                let low = max(0, Int(centre - support + 0.5))
                let high = min(length, Int(centre + support + 0.5))
                let parts = (low..<high).map { max(0, 1 - abs(Double($0) - centre + 0.5) / support) }
                let sum = parts.reduce(0, +)
                first.append(low)
                weights.append(parts.map { $0 / sum })
            }
        }

        func row(of image: RGBImage, _ row: Int) -> [Double] {
            var result = [Double](repeating: 0, count: first.count * 3)
            image.pixels.withUnsafeBufferPointer { source in
                for (index, parts) in weights.enumerated() {
                    var from = (row * image.width + first[index]) * 3
                    for weight in parts {
                        for channel in 0..<3 { result[index * 3 + channel] += Double(source[from + channel]) * weight }
                        from += 3
                    }
                }
            }
            return result
        }
    }
}
