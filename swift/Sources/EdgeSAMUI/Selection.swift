import EdgeSAM

/// What has been marked on an image.
public struct Selection: Sendable, Hashable {
    public var points: [PromptPoint]
    public var box: PromptBox?

    public init(points: [PromptPoint] = [], box: PromptBox? = nil) {
        self.points = points
        self.box = box
    }

    public var isEmpty: Bool { points.isEmpty && box == nil }

    /// The prompt for the decoder.
    public var prompt: Prompt { Prompt(points: points, box: box) }
}
