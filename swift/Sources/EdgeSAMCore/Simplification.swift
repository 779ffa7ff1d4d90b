/// Fewer corners for a polygon (Douglas and Peucker 1973).
enum Simplification {
    /// The corners of a closed polygon that are needed for no other to lie farther than `tolerance` from the rest.
    ///
    /// The first corner and the one farthest from it are kept; of equally far ones the first.
    static func simplified(_ points: [OutlinePoint], tolerance: Double) -> [OutlinePoint] {
        guard let first = points.first else { return [] }
        let (far, distance) = farthest(points.indices, in: points) { squared(points[$0], first) }
        guard distance > tolerance * tolerance else { return [first] }
        let closed = points + [first]
        var kept = [Bool](repeating: false, count: closed.count)
        for index in [0, far, closed.count - 1] { kept[index] = true }
        var open = [(0, far), (far, closed.count - 1)]
        while let (start, end) = open.popLast() {
            guard end - start > 1 else { continue }
            let (index, distance) = farthest(start + 1..<end, in: closed) {
                squaredDistance(of: closed[$0], from: closed[start], to: closed[end])
            }
            if distance > tolerance * tolerance {
                kept[index] = true
                open += [(start, index), (index, end)]
            }
        }
        return points.indices.filter { kept[$0] }.map { points[$0] }
    }

    private static func farthest(
        _ indices: Range<Int>, in points: [OutlinePoint], _ distance: (Int) -> Double
    ) -> (index: Int, squaredDistance: Double) {
        var best = (index: indices.lowerBound, squaredDistance: -1.0)
        for index in indices {
            let here = distance(index)
            if here > best.squaredDistance { best = (index, here) }
        }
        return best
    }

    private static func squared(_ a: OutlinePoint, _ b: OutlinePoint) -> Double {
        (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y)
    }

    /// Squared distance of a point from a line segment.
    private static func squaredDistance(
        of point: OutlinePoint, from start: OutlinePoint, to end: OutlinePoint
    ) -> Double {
        let (dx, dy) = (end.x - start.x, end.y - start.y)
        let length = dx * dx + dy * dy
        guard length > 0 else { return squared(point, start) }
        let part = min(max(((point.x - start.x) * dx + (point.y - start.y) * dy) / length, 0), 1)
        return squared(point, OutlinePoint(x: start.x + part * dx, y: start.y + part * dy))
    }
}
