/// How stored pixels are to be turned for viewing; the raw values are those of EXIF and of `CGImagePropertyOrientation`.
public enum ImageOrientation: Int, Sendable, Hashable, CaseIterable {
    case up = 1
    case upMirrored
    case down
    case downMirrored
    case leftMirrored
    case right
    case rightMirrored
    case left

    /// Whether width and height change places.
    public var swapsSides: Bool { rawValue >= ImageOrientation.leftMirrored.rawValue }

    /// The size of the upright image for that of the stored one, and the other way round.
    public func applied(to size: PixelSize) -> PixelSize {
        swapsSides ? PixelSize(width: size.height, height: size.width) : size
    }

    /// The stored pixel that is seen at a place of the upright image.
    func stored(_ x: Int, _ y: Int, _ stored: PixelSize) -> (x: Int, y: Int) {
        let (right, bottom) = (stored.width - 1, stored.height - 1)
        switch self {
        case .up: return (x, y)
        case .upMirrored: return (right - x, y)
        case .down: return (right - x, bottom - y)
        case .downMirrored: return (x, bottom - y)
        case .leftMirrored: return (y, x)
        case .right: return (y, bottom - x)
        case .rightMirrored: return (right - y, bottom - x)
        case .left: return (right - y, x)
        }
    }
}

extension RGBImage {
    /// The image turned upright; pixels are moved and not changed.
    public func oriented(_ orientation: ImageOrientation) -> RGBImage {
        if orientation == .up { return self }
        let upright = orientation.applied(to: size)
        let origin = orientation.stored(0, 0, size)
        let (across, down) = (orientation.stored(1, 0, size), orientation.stored(0, 1, size))
        // Both steps are constant over the whole image.
        let stepX = ((across.y - origin.y) * width + across.x - origin.x) * 3
        let stepY = ((down.y - origin.y) * width + down.x - origin.x) * 3
        let start = (origin.y * width + origin.x) * 3
        let turned = [UInt8](unsafeUninitializedCapacity: pixels.count) { target, count in
            pixels.withUnsafeBufferPointer { source in
                var next = 0
                for y in 0..<upright.height {
                    var from = start + y * stepY
                    for _ in 0..<upright.width {
                        target[next] = source[from]
                        target[next + 1] = source[from + 1]
                        target[next + 2] = source[from + 2]
                        next += 3
                        from += stepX
                    }
                }
            }
            count = pixels.count
        }
        return RGBImage(size: upright, checked: turned)
    }
}
