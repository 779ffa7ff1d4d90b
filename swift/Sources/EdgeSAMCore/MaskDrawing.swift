extension BinaryMask {
    /// 0 or 255 for each pixel, row-major: an 8-bit alpha channel or grey image.
    public var alpha: [UInt8] { bits.map { $0 &* 255 } }
}

extension RGBImage {
    /// The image with a colour laid over the pixels of a mask.
    ///
    /// - Parameters:
    ///   - opacity: 0 leaves the image as it is, 1 fills the mask; values outside are taken as the nearer of both, NaN
    ///     as 0. Channels are rounded to the nearest, halves up.
    /// - Throws: `ImageError.maskSize` for a mask of another size.
    public func overlay(_ mask: BinaryMask, color: RGBColor, opacity: Double = 0.5) throws(ImageError) -> RGBImage {
        try check(mask)
        let part = opacity > 0 ? min(opacity, 1) : 0
        let tables = [color.red, color.green, color.blue].map { channel in
            (0...255).map { UInt8(Double($0) * (1 - part) + Double(channel) * part + 0.5) }
        }
        var tinted = pixels
        tinted.withUnsafeMutableBufferPointer { target in
            for (index, bit) in mask.bits.enumerated() where bit != 0 {
                for channel in 0..<3 { target[3 * index + channel] = tables[channel][Int(target[3 * index + channel])] }
            }
        }
        return RGBImage(size: size, checked: tinted)
    }

    /// The image with everything outside a mask transparent; colours are kept there too, alpha is straight.
    ///
    /// - Throws: `ImageError.maskSize` for a mask of another size.
    public func cutOut(_ mask: BinaryMask) throws(ImageError) -> RGBAImage {
        try check(mask)
        let quads = [UInt8](unsafeUninitializedCapacity: size.area * 4) { target, count in
            pixels.withUnsafeBufferPointer { source in
                for (index, bit) in mask.bits.enumerated() {
                    for channel in 0..<3 { target[4 * index + channel] = source[3 * index + channel] }
                    target[4 * index + 3] = bit &* 255
                }
            }
            count = size.area * 4
        }
        return RGBAImage(size: size, checked: quads)
    }

    private func check(_ mask: BinaryMask) throws(ImageError) {
        guard mask.size == size else { throw .maskSize(mask: mask.size, image: size) }
    }
}
