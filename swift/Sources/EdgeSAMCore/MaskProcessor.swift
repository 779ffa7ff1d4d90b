/// Brings low-resolution mask logits to the size of the source image.
///
/// Single precision, each product of the sums below rounded once or not at all exactly as PyTorch's `interpolate` does
/// on processors with fused multiply-add, so that masks agree with Python's bit for bit.
public struct MaskProcessor: Sendable {
    public let geometry: ImageGeometry

    public init(geometry: ImageGeometry) { self.geometry = geometry }

    /// Logits at source size, row-major.
    ///
    /// - Precondition: `logits` holds `side` x `side` values, row-major.
    public func upsample(_ logits: [Float], side: Int = 256) -> [Float] {
        let size = geometry.source
        return [Float](unsafeUninitializedCapacity: size.area) { target, count in
            eachRow(of: logits, side: side) { y, row in
                for x in 0..<size.width { target[y * size.width + x] = row[x] }
            }
            count = size.area
        }
    }

    /// The mask at source size: where `upsample` is above 0, without keeping its floats.
    ///
    /// - Precondition: `logits` holds `side` x `side` values, row-major.
    public func mask(_ logits: [Float], side: Int = 256) -> BinaryMask {
        let size = geometry.source
        let bits = [UInt8](unsafeUninitializedCapacity: size.area) { target, count in
            eachRow(of: logits, side: side) { y, row in
                for x in 0..<size.width { target[y * size.width + x] = row[x] > 0 ? 1 : 0 }
            }
            count = size.area
        }
        return BinaryMask(size: size, checked: bits)
    }

    /// The mask at the size of the map itself, without its padding: quick, with the proportions of the source.
    ///
    /// - Precondition: `logits` holds `side` x `side` values, row-major.
    public func preview(_ logits: [Float], side: Int = 256) -> BinaryMask {
        precondition(side > 0 && logits.count == side * side, "logits are a square of side x side values")
        let size = partWithoutPadding(side)
        var bits: [UInt8] = []
        bits.reserveCapacity(size.area)
        for y in 0..<size.height { bits += logits[y * side..<y * side + size.width].map { $0 > 0 ? 1 : 0 } }
        return BinaryMask(size: size, checked: bits)
    }

    /// Where logits at source size are above 0.
    ///
    /// - Precondition: one value for each pixel of the source.
    public func threshold(_ logits: [Float]) -> BinaryMask {
        let size = geometry.source
        precondition(logits.count == size.area, "one logit for each pixel of the source")
        return BinaryMask(size: size, checked: logits.map { $0 > 0 ? 1 : 0 })
    }

    /// Calls `body` for each row of the source, from the top, without ever holding a map of the prompt frame.
    private func eachRow(
        of logits: [Float], side: Int, _ body: (_ y: Int, _ row: UnsafePointer<Float>) -> Void
    ) {
        precondition(side > 0 && logits.count == side * side, "logits are a square of side x side values")
        let (source, extent, promptSize) = (geometry.source, geometry.promptExtent, geometry.frame.promptSize)
        logits.withUnsafeBufferPointer { values in
            guard let base = values.baseAddress else { return }
            switch geometry.frame.maskResize {
            case .bilinear:
                var prompt = RowSampler(
                    from: PixelSize(width: side, height: side), to: PixelSize(width: promptSize, height: promptSize),
                    columns: extent.width, kind: .bilinear)
                var whole = RowSampler(from: extent, to: source, columns: source.width, kind: .bilinear)
                for y in 0..<source.height {
                    body(y, whole.row(y) { inner in prompt.row(inner) { base + $0 * side } })
                }
            case .bicubic, .bilinearDirect:
                let part = partWithoutPadding(side)
                let kind: RowSampler.Kind = geometry.frame.maskResize == .bicubic ? .bicubic : .bilinear
                var whole = RowSampler(from: part, to: source, columns: source.width, kind: kind)
                for y in 0..<source.height { body(y, whole.row(y) { base + $0 * side }) }
            }
        }
    }

    /// Size of the image inside a low-resolution map.
    private func partWithoutPadding(_ side: Int) -> PixelSize {
        var frame = geometry.frame
        frame.promptSize = side
        return ImageGeometry(source: geometry.source, frame: frame).promptExtent
    }
}
