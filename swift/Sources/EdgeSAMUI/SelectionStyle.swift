import EdgeSAM

/// Colours and sizes of what is drawn over an image.
public struct SelectionStyle: Sendable, Hashable {
    public var mask = RGBColor(red: 255, green: 45, blue: 130)
    /// 0 leaves the image as it is, 1 fills the mask.
    public var maskOpacity = 0.45
    public var outline = RGBColor(red: 255, green: 255, blue: 255)
    public var foreground = RGBColor(red: 52, green: 199, blue: 89)
    public var background = RGBColor(red: 255, green: 59, blue: 48)
    public var box = RGBColor(red: 255, green: 204, blue: 0)
    /// Radius of a mark's disc as a part of the image's longer side.
    public var markRadius = 0.014
    /// Width of lines as a part of the image's longer side.
    public var lineWidth = 0.004
    /// How far the drawn outline may lie from the mask's edge, in pixels.
    public var outlineTolerance = 0.5

    public init() {}
}
