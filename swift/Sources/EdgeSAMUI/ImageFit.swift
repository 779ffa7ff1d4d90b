import EdgeSAM
import Foundation

/// An image shown whole and centred in a view, as large as it fits.
public struct ImageFit: Sendable, Equatable {
    public let image: PixelSize
    /// Size of the view in points.
    public let view: CGSize

    public init(image: PixelSize, view: CGSize) {
        self.image = image
        self.view = view
    }

    /// Points of the view for each pixel of the image; 0 where either is empty.
    public var scale: CGFloat {
        guard image.width > 0, image.height > 0, view.width > 0, view.height > 0 else { return 0 }
        return min(view.width / CGFloat(image.width), view.height / CGFloat(image.height))
    }

    /// Where the image lies in the view.
    public var frame: CGRect {
        let (width, height) = (CGFloat(image.width) * scale, CGFloat(image.height) * scale)
        return CGRect(x: (view.width - width) / 2, y: (view.height - height) / 2, width: width, height: height)
    }

    /// The place in the image, in pixels, under a point of the view; nil beside the image.
    public func pixel(at point: CGPoint) -> CGPoint? {
        guard scale > 0 else { return nil }
        let place = CGPoint(x: (point.x - frame.minX) / scale, y: (point.y - frame.minY) / scale)
        guard place.x >= 0, place.y >= 0, place.x < CGFloat(image.width), place.y < CGFloat(image.height) else {
            return nil
        }
        return place
    }

    /// The box in the image between two points of the view, cut off at its edges; nil without a pixel of area.
    public func box(from start: CGPoint, to end: CGPoint) -> PromptBox? {
        guard scale > 0 else { return nil }
        func pixels(_ value: CGFloat, from edge: CGFloat, most: Int) -> Double {
            Double(min(max((value - edge) / scale, 0), CGFloat(most)))
        }
        let xs = [start.x, end.x].map { pixels($0, from: frame.minX, most: image.width) }.sorted()
        let ys = [start.y, end.y].map { pixels($0, from: frame.minY, most: image.height) }.sorted()
        guard xs[1] - xs[0] >= 1, ys[1] - ys[0] >= 1 else { return nil }
        return PromptBox(x0: xs[0], y0: ys[0], x1: xs[1], y1: ys[1])
    }

    /// Where a box of the image lies in the view.
    public func frame(of box: PromptBox) -> CGRect {
        CGRect(
            x: frame.minX + box.x0 * scale, y: frame.minY + box.y0 * scale, width: (box.x1 - box.x0) * scale,
            height: (box.y1 - box.y0) * scale)
    }
}
