import Foundation

/// What a finger or a pointer did on the image, in points of the view.
public enum SelectionGesture: Sendable, Equatable {
    /// This belongs to the object.
    case tap(CGPoint)
    /// This does not belong to it.
    case longPress(CGPoint)
    /// The object lies between these corners.
    case drag(from: CGPoint, to: CGPoint)
}
