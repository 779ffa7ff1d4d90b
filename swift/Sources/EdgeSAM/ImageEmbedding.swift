import EdgeSAMCore

/// What the encoder made of one picture: compute it once, then ask for as many masks as you like.
public struct ImageEmbedding: Sendable {
    /// Name of the model that made it.
    public let model: String
    /// Size of the picture and its place in the model's frame.
    public let geometry: ImageGeometry
    /// `[1, 256, 64, 64]`.
    public let shape: [Int]
    /// Row-major, 4 MiB; a copy of its own.
    public let values: [Float]
}
