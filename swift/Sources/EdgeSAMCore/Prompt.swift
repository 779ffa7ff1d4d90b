/// What a point says about the object.
public enum PromptLabel: Int, Sendable, Hashable, CaseIterable {
    case background = 0
    case foreground = 1
}

/// A point in source pixels.
public struct PromptPoint: Sendable, Hashable {
    public var x: Double
    public var y: Double
    public var label: PromptLabel

    public init(x: Double, y: Double, label: PromptLabel = .foreground) {
        self.x = x
        self.y = y
        self.label = label
    }
}

/// A box in source pixels: top left corner, then bottom right corner.
public struct PromptBox: Sendable, Hashable {
    public var x0: Double
    public var y0: Double
    public var x1: Double
    public var y1: Double

    public init(x0: Double, y0: Double, x1: Double, y1: Double) {
        self.x0 = x0
        self.y0 = y0
        self.x1 = x1
        self.y1 = y1
    }
}

/// What marks one object: points, a box, a mask, or several of them together.
public struct Prompt: Sendable, Hashable {
    /// Side of a mask prompt and of low-resolution masks.
    public static let maskSide = 256

    public var points: [PromptPoint]
    public var box: PromptBox?
    /// Logits of an earlier prediction, row-major, `maskSide` x `maskSide`.
    public var maskLogits: [Float]?

    public init(points: [PromptPoint] = [], box: PromptBox? = nil, maskLogits: [Float]? = nil) {
        self.points = points
        self.box = box
        self.maskLogits = maskLogits
    }

    /// Its kind as contracts name it: `point`, `points`, `box`, `box+point` or `mask`.
    public var kind: String {
        if maskLogits != nil { return "mask" }
        if box != nil { return points.isEmpty ? "box" : "box+point" }
        return points.count > 1 ? "points" : "point"
    }

    /// One point in source pixels.
    public static func point(_ x: Double, _ y: Double, _ label: PromptLabel = .foreground) -> Prompt {
        Prompt(points: [PromptPoint(x: x, y: y, label: label)])
    }

    /// One box in source pixels.
    public static func box(_ x0: Double, _ y0: Double, _ x1: Double, _ y1: Double) -> Prompt {
        Prompt(box: PromptBox(x0: x0, y0: y0, x1: x1, y1: y1))
    }

    /// Logits of an earlier prediction, row-major, `maskSide` x `maskSide`.
    public static func mask(_ logits: [Float]) -> Prompt { Prompt(maskLogits: logits) }
}
