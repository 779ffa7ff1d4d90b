/// Width and height in pixels.
public struct PixelSize: Sendable, Hashable, Codable {
    public var width: Int
    public var height: Int

    public init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }

    /// Number of pixels.
    public var area: Int { width * height }

    /// The size with the same proportions whose longest side is at most `side`; nil leaves it as it is.
    package func limited(to side: Int?) -> PixelSize {
        guard let side, side < max(width, height) else { return self }
        return ImageGeometry.scaled(self, to: max(1, side))
    }
}
