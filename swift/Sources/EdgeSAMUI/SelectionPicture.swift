import EdgeSAM

/// An image with a mask, its outline and the marks drawn into it: what the view shows, and what an app may share.
public struct SelectionPicture: Sendable {
    public var image: RGBImage
    /// As large as the image; nil draws none.
    public var mask: BinaryMask?
    public var selection: Selection
    public var style: SelectionStyle

    public init(
        image: RGBImage, mask: BinaryMask? = nil, selection: Selection = Selection(),
        style: SelectionStyle = SelectionStyle()
    ) {
        self.image = image
        self.mask = mask
        self.selection = selection
        self.style = style
    }

    /// Draws; not on the caller's actor.
    ///
    /// - Returns: nil when the task was cancelled, or the mask is not one of this image.
    public func render() async -> RGBImage? {
        var tinted = image
        if let mask {
            guard let overlay = try? image.overlay(mask, color: style.mask, opacity: style.maskOpacity) else {
                return nil
            }
            tinted = overlay
        }
        guard !Task.isCancelled else { return nil }
        var canvas = Canvas(tinted)
        let side = Double(max(image.width, image.height))
        let (width, radius) = (max(side * style.lineWidth, 1), max(side * style.markRadius, 2))
        for area in mask?.outline(tolerance: style.outlineTolerance) ?? [] {
            for ring in [area.exterior] + area.holes {
                canvas.stroke(ring.map { ($0.x, $0.y) }, width: width, color: style.outline)
            }
        }
        if let box = selection.box {
            let corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)]
            canvas.stroke(corners, width: width * 1.5, color: style.box)
        }
        for point in selection.points {
            // Half a pixel: the middle of the pixel that was meant.
            let (x, y) = (point.x.rounded(.down) + 0.5, point.y.rounded(.down) + 0.5)
            let isForeground = point.label == .foreground
            canvas.disc(x, y, radius: radius, color: RGBColor(red: 255, green: 255, blue: 255))
            canvas.disc(x, y, radius: radius * 0.78, color: isForeground ? style.foreground : style.background)
            // A plus or a minus: colours alone do not tell everybody.
            let arm = radius * 0.45
            let white = RGBColor(red: 255, green: 255, blue: 255)
            canvas.stroke([(x - arm, y), (x + arm, y)], width: radius * 0.25, color: white)
            if isForeground { canvas.stroke([(x, y - arm), (x, y + arm)], width: radius * 0.25, color: white) }
        }
        return canvas.image
    }
}
