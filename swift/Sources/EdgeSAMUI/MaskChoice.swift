import EdgeSAM

/// One of the masks to choose from.
public struct MaskChoice: Sendable, Hashable, Identifiable {
    /// Position among the candidates.
    public let id: Int
    /// The decoder's score, higher is better.
    public let score: Float
    /// As large as the image.
    public let mask: BinaryMask

    public init(id: Int, score: Float, mask: BinaryMask) {
        self.id = id
        self.score = score
        self.mask = mask
    }
}
