import EdgeSAMCore

/// What the encoder made of one image: compute it once, then ask for as many masks as you like.
public struct ImageEmbedding: Sendable {
    /// One output of the encoder, under its name in the contract.
    public struct Map: Sendable, Hashable {
        public let name: String
        /// `[1, channels, rows, columns]`.
        public let shape: [Int]
        /// Row-major, a copy of its own.
        public let values: [Float]
    }

    /// Name of the model that made it.
    public let model: String
    /// Size of the image and its location in the model's frame.
    public let geometry: ImageGeometry
    /// Everything that the decoder takes, in the order of the encoder's contract; one map for most models.
    public let maps: [Map]

    /// Shape of the first map, `[1, channels, 64, 64]`, 256 channels for most models.
    public var shape: [Int] { maps.first?.shape ?? [] }
    /// Values of the first map, row-major, 4 MiB for 256 channels.
    public var values: [Float] { maps.first?.values ?? [] }
}
