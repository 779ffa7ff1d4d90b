/// A corner of an outline, in pixels of the mask: x to the right, y down, the first pixel from (0, 0) to (1, 1).
public struct OutlinePoint: Sendable, Hashable {
    public var x: Double
    public var y: Double

    public init(x: Double, y: Double) {
        self.x = x
        self.y = y
    }
}

/// One connected area of a mask as polygons; each is closed, its last corner joined to its first.
public struct MaskOutline: Sendable, Hashable {
    /// Clockwise as seen on a screen.
    public let exterior: [OutlinePoint]
    /// Counter-clockwise; may hold areas of the mask again, which have outlines of their own.
    public let holes: [[OutlinePoint]]

    public init(exterior: [OutlinePoint], holes: [[OutlinePoint]] = []) {
        self.exterior = exterior
        self.holes = holes
    }
}

extension BinaryMask {
    /// Polygons around the pixels set, by marching squares at the level between 0 and 1.
    ///
    /// Corners lie half-way between pixels, so that exactly the centres of the pixels set are inside.  Areas that touch
    /// only diagonally are separate.  Ordered by the first row, then column, of each area.
    ///
    /// - Parameter tolerance: how far, in pixels, corners that are left out may lie from the polygon (Douglas and Peucker
    ///   1973); 0 or less keeps all, but for those on a straight line. What becomes thinner than that disappears.
    public func outline(tolerance: Double = 0) -> [MaskOutline] {
        var tracer = OutlineTracer(self)
        let rings = tracer.rings()
        func polygon(_ ring: OutlineTracer.Ring) -> [OutlinePoint]? {
            let points = tolerance > 0 ? Simplification.simplified(ring.points, tolerance: tolerance) : ring.points
            return points.count < 3 ? nil : points
        }
        var holes: [Int: [[OutlinePoint]]] = [:]
        for ring in rings {
            guard let parent = ring.parent, let hole = polygon(ring) else { continue }
            holes[parent, default: []].append(hole)
        }
        return rings.indices.compactMap { index in
            guard rings[index].parent == nil, let exterior = polygon(rings[index]) else { return nil }
            return MaskOutline(exterior: exterior, holes: holes[index] ?? [])
        }
    }
}
