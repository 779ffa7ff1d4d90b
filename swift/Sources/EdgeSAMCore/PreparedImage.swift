/// One image in the form the encoder takes, with what is needed to map prompts and masks.
public struct PreparedImage: Sendable {
    public let geometry: ImageGeometry
    /// Red, green, blue bytes of the image frame: (size, size, 3), padded right and bottom with the frame's colour.
    public let pixels: [UInt8]

    /// The image normalised, then padded with zeros: (1, 3, size, size).
    public func tensor() -> [Float] {
        let side = geometry.frame.size
        let plane = side * side
        let tables = (0..<3).map { normalised(channel: $0) }
        return [Float](unsafeUninitializedCapacity: 3 * plane) { target, count in
            target.initialize(repeating: 0)
            pixels.withUnsafeBufferPointer { source in
                for (channel, table) in tables.enumerated() {
                    table.withUnsafeBufferPointer { values in
                        for row in 0..<geometry.scaledSize.height {
                            var from = row * side * 3 + channel
                            let first = channel * plane + row * side
                            for to in first..<first + geometry.scaledSize.width {
                                target[to] = values[Int(source[from])]
                                from += 3
                            }
                        }
                    }
                }
            }
            count = 3 * plane
        }
    }

    /// What each byte of a channel becomes, in single precision as NumPy computes it.
    private func normalised(channel: Int) -> [Float] {
        let (mean, std) = (Float(geometry.frame.mean[channel]), Float(geometry.frame.std[channel]))
        return (0..<256).map { (Float($0) - mean) / std }
    }
}
