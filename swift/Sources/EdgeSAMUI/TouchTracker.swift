import Foundation

/// Tells taps, long presses and drags apart; one touch after the other.
///
/// A value without a clock: whoever feeds it says when things happen, so that it can be tested with any times.
public struct TouchTracker: Sendable, Equatable {
    /// How far a finger may slip, in points, before it drags.
    public var slop: CGFloat
    /// How long it must rest, in seconds, for a long press.
    public var holdS: TimeInterval

    private var start: CGPoint?
    private var startedAt: TimeInterval = 0
    private var isDragging = false
    private var isSpent = false

    public init(slop: CGFloat = 10, holdS: TimeInterval = 0.45) {
        self.slop = slop
        self.holdS = holdS
    }

    /// The touch that began at `start` is at `point`; returns the drag so far once it is one.
    ///
    /// Another start is another touch: the system may take one away without a word.
    public mutating func moved(from start: CGPoint, to point: CGPoint, at time: TimeInterval) -> SelectionGesture? {
        if self.start != start { (self.start, startedAt, isDragging, isSpent) = (start, time, false, false) }
        isDragging = isDragging || hypot(point.x - start.x, point.y - start.y) > slop
        return isDragging && !isSpent ? .drag(from: start, to: point) : nil
    }

    /// Time has passed with the finger down; returns a long press once, when it has rested long enough.
    public mutating func held(until time: TimeInterval) -> SelectionGesture? {
        guard let start, !isDragging, !isSpent, time - startedAt >= holdS else { return nil }
        isSpent = true
        return .longPress(start)
    }

    /// The touch has ended; returns what it was, nil when that was reported already.
    public mutating func ended(from start: CGPoint, at point: CGPoint, time: TimeInterval) -> SelectionGesture? {
        defer { self.start = nil }
        let drag = moved(from: start, to: point, at: time)
        if isSpent { return nil }
        return drag ?? (time - startedAt >= holdS ? .longPress(start) : .tap(start))
    }
}
