import EdgeSAMCore

/// What the encoder made of one picture: compute it once, then ask for as many masks as you like.
public struct ImageEmbedding: Sendable {
    /// Name of the model that made it.
    public let model: String
    /// Size of the picture and its place in the model's frame.
    public let geometry: ImageGeometry
    /// `[1, channels, 64, 64]`, 256 channels for most models.
    public let shape: [Int]
    /// Row-major, 4 MiB for 256 channels; a copy of its own.
    public let values: [Float]
}
