/// How an image is brought to the encoder's frame.
public enum ImagePreparation: Sendable, Hashable {
    /// Pixel for pixel what edgesam-export's Python side does: every pixel of the image counts.
    case exact
    /// For camera frames: neighbouring pixels only, by Video Toolbox where the system has it. Fine detail of an image much
    /// larger than the frame may alias: masks change a little, how much swift/README.md says.
    case fast
}

/// Resizes images to a frame and pads them.
public struct ImagePreparer: Sendable {
    public let frame: ImageFrame

    public init(frame: ImageFrame) { self.frame = frame }

    /// Resize an image as the frame says and pad it right and bottom.
    ///
    /// Exact, proportions kept: a triangle filter over 8-bit channels, as Pillow does. Exact, stretched: bilinear with or
    /// without antialiasing, rounded to 8 bits at the end. Fast: bilinear without antialiasing.
    public func prepare(_ image: RGBImage, _ preparation: ImagePreparation = .exact) -> PreparedImage {
        let geometry = ImageGeometry(source: image.size, frame: frame)
        let resized =
            switch (frame.fit, preparation) {
            case (.longestSide, .exact):
                TriangleFilter.resize(image.pixels, from: image.size, to: geometry.scaledSize)
            case (.stretch, .exact): stretched(image)
            case (.stretchAntialias, .exact): AntialiasedStretch.resize(image, side: frame.size)
            case (_, .fast): BilinearFilter.resize(image.pixels, from: image.size, to: geometry.scaledSize)
            }
        return padded(resized, geometry)
    }

    /// An image that somebody else resized to `geometry.scaledSize`, padded right and bottom.
    ///
    /// - Precondition: it has that size.
    public func pad(_ resized: RGBImage, _ geometry: ImageGeometry) -> PreparedImage {
        precondition(geometry.frame == frame && resized.size == geometry.scaledSize, "an image of the scaled size")
        return padded(resized.pixels, geometry)
    }

    private func padded(_ resized: [UInt8], _ geometry: ImageGeometry) -> PreparedImage {
        let (width, height, side) = (geometry.scaledSize.width, geometry.scaledSize.height, frame.size)
        if width == side && height == side { return PreparedImage(geometry: geometry, pixels: resized) }
        let pixels = [UInt8](unsafeUninitializedCapacity: side * side * 3) { target, count in
            var at = 0
            for _ in 0..<side * side {
                for channel in 0..<3 {
                    target[at] = frame.padColour[channel]
                    at += 1
                }
            }
            resized.withUnsafeBufferPointer { source in
                guard let from = source.baseAddress, let to = target.baseAddress else { return }
                for row in 0..<height {
                    (to + row * side * 3).update(from: from + row * width * 3, count: width * 3)
                }
            }
            count = side * side * 3
        }
        return PreparedImage(geometry: geometry, pixels: pixels)
    }

    /// Both sides to `frame.size`, in double precision as Python does it, halves rounded to even.
    private func stretched(_ image: RGBImage) -> [UInt8] {
        let side = frame.size
        let across = StretchTaps(from: image.width, to: side)
        let down = StretchTaps(from: image.height, to: side)
        return [UInt8](unsafeUninitializedCapacity: side * side * 3) { target, count in
            image.pixels.withUnsafeBufferPointer { source in
                var at = 0
                for y in 0..<side {
                    let (top, bottom, share) = (down.low[y] * image.width, down.high[y] * image.width, down.share[y])
                    for x in 0..<side {
                        for channel in 0..<3 {
                            let upper = across.mix(x) { Double(source[(top + $0) * 3 + channel]) }
                            let lower = across.mix(x) { Double(source[(bottom + $0) * 3 + channel]) }
                            target[at] = UInt8((upper * (1 - share) + lower * share).rounded(.toNearestOrEven))
                            at += 1
                        }
                    }
                }
            }
            count = side * side * 3
        }
    }
}

/// The two neighbours of each output position on one axis: half-pixel centres, edges repeated.
private struct StretchTaps {
    var low: [Int] = []
    var high: [Int] = []
    var share: [Double] = []

    init(from length: Int, to side: Int) {
        for index in 0..<side {
            let position = max(0, (Double(index) + 0.5) * (Double(length) / Double(side)) - 0.5)
            low.append(Int(position))
            high.append(min(Int(position) + 1, length - 1))
            share.append(position - Double(Int(position)))
        }
    }

    func mix(_ index: Int, _ value: (Int) -> Double) -> Double {
        value(low[index]) * (1 - share[index]) + value(high[index]) * share[index]
    }
}
