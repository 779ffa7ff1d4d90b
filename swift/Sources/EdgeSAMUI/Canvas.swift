import EdgeSAM

/// Lines and discs with soft edges on an image; coordinates in pixels, the first one from (0, 0) to (1, 1).
struct Canvas {
    private let size: PixelSize
    private var pixels: [UInt8]

    init(_ image: RGBImage) {
        size = image.size
        pixels = image.pixels
    }

    /// What was drawn; nil never happens, as the size is that of an image.
    var image: RGBImage? { try? RGBImage(width: size.width, height: size.height, pixels: pixels) }

    mutating func disc(_ x: Double, _ y: Double, radius: Double, color: RGBColor) {
        fill(x - radius, y - radius, x + radius, y + radius, color: color) { px, py in
            radius - ((px - x) * (px - x) + (py - y) * (py - y)).squareRoot()
        }
    }

    /// A closed line through corners; two of them are a stroke.
    mutating func stroke(_ corners: [(Double, Double)], width: Double, color: RGBColor) {
        let half = width / 2
        for (index, start) in corners.enumerated() {
            let end = corners[(index + 1) % corners.count]
            let (dx, dy) = (end.0 - start.0, end.1 - start.1)
            let squared = dx * dx + dy * dy
            fill(
                min(start.0, end.0) - half, min(start.1, end.1) - half, max(start.0, end.0) + half,
                max(start.1, end.1) + half, color: color
            ) { px, py in
                let part =
                    squared > 0 ? min(max(((px - start.0) * dx + (py - start.1) * dy) / squared, 0), 1) : 0
                let (ex, ey) = (px - start.0 - part * dx, py - start.1 - part * dy)
                return half - (ex * ex + ey * ey).squareRoot()
            }
        }
    }

    /// Colours the pixels of a rectangle by how deep their middles lie inside a shape, half a pixel of it soft.
    private mutating func fill(
        _ left: Double, _ top: Double, _ right: Double, _ bottom: Double, color: RGBColor,
        depth: (Double, Double) -> Double
    ) {
        let columns = clamped(left, right, size.width)
        let channels = [color.red, color.green, color.blue].map(Double.init)
        for row in clamped(top, bottom, size.height) {
            for column in columns {
                let part = min(max(depth(Double(column) + 0.5, Double(row) + 0.5) + 0.5, 0), 1)
                guard part > 0 else { continue }
                let first = (row * size.width + column) * 3
                for channel in 0..<3 {
                    let below = Double(pixels[first + channel])
                    pixels[first + channel] = UInt8(below + (channels[channel] - below) * part + 0.5)
                }
            }
        }
    }

    private func clamped(_ low: Double, _ high: Double, _ count: Int) -> Range<Int> {
        let first = Int(min(max(low.rounded(.down) - 1, 0), Double(count)))
        let last = Int(min(max(high.rounded(.up) + 1, 0), Double(count)))
        return first..<max(first, last)
    }
}
