/// Walks along the borders of a mask, the pixels set to its right.
///
/// A border crosses every pair of neighbouring pixels of which one is set, half-way between their centres.  Walks start
/// where a row changes from 0 to 1, of which every border has at least one.
struct OutlineTracer {
    /// A closed border without corners on straight lines, from its first corner by row, then column.
    struct Ring {
        var points: [OutlinePoint]
        /// Index of the ring around the area that this is a hole in; nil for the outside of an area.
        let parent: Int?
    }

    /// Steps to the right, down, left and up.
    private static let steps = [(1, 0), (0, 1), (-1, 0), (0, -1)]

    private let bits: [UInt8]
    private let size: PixelSize
    /// Columns at which rows change from 0 to 1, row after row; `starts[y]` is the first one of row y.
    private var columns: [Int32] = []
    private var starts: [Int] = [0]
    /// The ring that each change belongs to, -1 while it is unknown.
    private var owners: [Int32]

    init(_ mask: BinaryMask) {
        bits = mask.bits
        size = mask.size
        for y in 0..<size.height {
            var before: UInt8 = 0
            for x in 0..<size.width {
                let bit = bits[y * size.width + x]
                if bit > before { columns.append(Int32(x)) }
                before = bit
            }
            starts.append(columns.count)
        }
        owners = [Int32](repeating: -1, count: columns.count)
    }

    mutating func rings() -> [Ring] {
        var rings: [Ring] = []
        for y in 0..<size.height {
            for change in starts[y]..<starts[y + 1] where owners[change] < 0 {
                let x = Int(columns[change])
                let corners = walk(fromColumn: x, row: y, ring: rings.count)
                rings.append(Ring(points: Self.rotated(corners.points), parent: nil))
                // Clockwise on a screen, with y down, is a positive area.
                if corners.doubledArea < 0 {
                    rings[rings.count - 1] = Ring(
                        points: rings[rings.count - 1].points, parent: owner(ofColumn: x - 1, row: y - 1, among: rings))
                }
            }
        }
        return rings
    }

    /// One round along a border, starting upwards between the columns `column - 1` and `column`.
    private mutating func walk(fromColumn column: Int, row: Int, ring: Int)
        -> (points: [OutlinePoint], doubledArea: Double)
    {
        // The border is at the middle of the side of a square whose corners are pixel centres; (x, y) is the pixel ahead
        // to the right, and the walk enters the square between that pixel and the three before and beside it.
        var (direction, x, y) = (3, column, row)
        var points: [OutlinePoint] = []
        var doubledArea = 0.0
        var last = OutlinePoint(x: Double(column), y: Double(row) + 0.5)
        var lastTurned = false
        repeat {
            if direction == 3 { own(column: x, row: y, ring: ring) }
            let (forward, left) = (Self.steps[direction], Self.steps[(direction + 3) % 4])
            let aheadRight = isSet(x + forward.0, y + forward.1)
            let aheadLeft = isSet(x + forward.0 + left.0, y + forward.1 + left.1)
            let turn: Int
            if !aheadRight {
                turn = 1  // also where the pixel ahead to the left is set: areas that touch diagonally are separate
            } else if aheadLeft {
                turn = 3
                (x, y) = (x + forward.0 + left.0, y + forward.1 + left.1)
            } else {
                turn = 0
                (x, y) = (x + forward.0, y + forward.1)
            }
            direction = (direction + turn) % 4
            let next = Self.crossing(direction, x, y)
            if turn != 0 || lastTurned { points.append(last) }
            lastTurned = turn != 0
            doubledArea += last.x * next.y - next.x * last.y
            last = next
        } while !(direction == 3 && x == column && y == row)
        if lastTurned, points.first != last { points.append(last) }
        return (Self.withoutStraight(points), doubledArea)
    }

    /// Middle between the pixel to the right of the walk and the one to its left.
    private static func crossing(_ direction: Int, _ x: Int, _ y: Int) -> OutlinePoint {
        let right = steps[(direction + 1) % 4]
        return OutlinePoint(
            x: Double(x) + 0.5 - 0.5 * Double(right.0), y: Double(y) + 0.5 - 0.5 * Double(right.1))
    }

    private func isSet(_ x: Int, _ y: Int) -> Bool {
        x >= 0 && y >= 0 && x < size.width && y < size.height && bits[y * size.width + x] != 0
    }

    // MARK: Which ring a change belongs to

    private mutating func own(column: Int, row: Int, ring: Int) {
        if let change = change(atMost: column, row: row), Int(columns[change]) == column {
            owners[change] = Int32(ring)
        }
    }

    /// The outer ring of the area of a pixel that is set: the nearest change to its left belongs to it or to its hole.
    private func owner(ofColumn column: Int, row: Int, among rings: [Ring]) -> Int? {
        guard let change = change(atMost: column, row: row), owners[change] >= 0 else { return nil }
        let ring = Int(owners[change])
        return rings[ring].parent ?? ring
    }

    private func change(atMost column: Int, row: Int) -> Int? {
        var (low, high) = (starts[row], starts[row + 1])
        while low < high {
            let middle = (low + high) / 2
            if Int(columns[middle]) <= column { low = middle + 1 } else { high = middle }
        }
        return low == starts[row] ? nil : low - 1
    }

    // MARK: Corners

    private static func withoutStraight(_ points: [OutlinePoint]) -> [OutlinePoint] {
        let count = points.count
        return points.indices.compactMap { index in
            let (before, here) = (points[(index + count - 1) % count], points[index])
            let after = points[(index + 1) % count]
            let cross = (here.x - before.x) * (after.y - here.y) - (here.y - before.y) * (after.x - here.x)
            return cross == 0 ? nil : here
        }
    }

    private static func rotated(_ points: [OutlinePoint]) -> [OutlinePoint] {
        guard let first = points.indices.min(by: { (points[$0].y, points[$0].x) < (points[$1].y, points[$1].x) })
        else { return points }
        return Array(points[first...] + points[..<first])
    }
}
