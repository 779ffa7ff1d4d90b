/// Where one image lies in the image frame and in the prompt frame.
///
/// *Source*: pixels of the image as it was given. *Image frame*: the `frame.size` square that the encoder sees.
/// *Prompt frame*: the `frame.promptSize` square in which prompt coordinates and low-resolution masks live.
public struct ImageGeometry: Sendable, Hashable {
    /// Size of the image as it was given.
    public let source: PixelSize
    public let frame: ImageFrame
    /// Size of the image inside the image frame.
    public let scaledSize: PixelSize
    /// Size of the image inside the prompt frame.
    public let promptExtent: PixelSize

    /// - Precondition: both sides of `source` are at least 1.
    public init(source: PixelSize, frame: ImageFrame) {
        precondition(source.width > 0 && source.height > 0, "an image has at least one pixel")
        self.source = source
        self.frame = frame
        switch frame.fit {
        case .stretch, .stretchAntialias:
            scaledSize = PixelSize(width: frame.size, height: frame.size)
            promptExtent = PixelSize(width: frame.promptSize, height: frame.promptSize)
        case .longestSide:
            scaledSize = Self.scaled(source, to: frame.size)
            promptExtent = Self.scaled(source, to: frame.promptSize)
        }
    }

    /// Each side times `side` / the longest side, halves rounded up, at least 1.
    ///
    /// Double precision in this order: sizes that fall on a half then round as they do in segment-anything.
    static func scaled(_ source: PixelSize, to side: Int) -> PixelSize {
        let scale = Double(side) / Double(max(source.width, source.height))
        func length(_ pixels: Int) -> Int { max(1, Int(Double(pixels) * scale + 0.5)) }
        return PixelSize(width: length(source.width), height: length(source.height))
    }

    /// A point of the source image in the prompt frame.
    ///
    /// Each axis has its own factor, new side / old side, because the new sides are whole pixels.
    public func toPromptFrame(x: Double, y: Double) -> (x: Float, y: Float) {
        (
            Float(x * (Double(promptExtent.width) / Double(source.width))),
            Float(y * (Double(promptExtent.height) / Double(source.height)))
        )
    }

    /// A point of the prompt frame in source pixels; the inverse of `toPromptFrame`.
    public func toSource(x: Float, y: Float) -> (x: Double, y: Double) {
        (
            Double(x) * (Double(source.width) / Double(promptExtent.width)),
            Double(y) * (Double(source.height) / Double(promptExtent.height))
        )
    }
}
