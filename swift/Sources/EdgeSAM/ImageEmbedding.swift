import EdgeSAMCore

/// What the encoder made of one image: compute it once, then ask for as many masks as you like.
///
/// The maps stay where the encoder wrote them, in half precision for most models, and go to the decoder as they are.
/// Their memory is used again once the last copy of the embedding is gone.
public struct ImageEmbedding: Sendable {
    /// One output of the encoder, under its name in the contract.
    public struct Map: Sendable, Hashable {
        public let name: String
        /// `[1, channels, rows, columns]`.
        public let shape: [Int]
        let tensor: SharedTensor

        init(name: String, tensor: SharedTensor) {
            self.name = name
            self.tensor = tensor
            shape = tensor.array.sizes
        }

        /// A row-major copy as float32, made at each call.
        public var values: [Float] { (try? tensor.floats()) ?? [] }

        public static func == (left: Map, right: Map) -> Bool {
            left.name == right.name && left.shape == right.shape
                && (left.tensor === right.tensor || left.values == right.values)
        }

        public func hash(into hasher: inout Hasher) {
            hasher.combine(name)
            hasher.combine(shape)
        }
    }

    /// Name of the model that made it.
    public let model: String
    /// Size of the image and its location in the model's frame.
    public let geometry: ImageGeometry
    /// Everything that the decoder takes, in the order of the encoder's contract; one map for most models.
    public let maps: [Map]

    /// Shape of the first map, `[1, channels, 64, 64]`, 256 channels for most models.
    public var shape: [Int] { maps.first?.shape ?? [] }
    /// A copy of the first map as float32, row-major, 4 MiB for 256 channels.
    public var values: [Float] { maps.first?.values ?? [] }
}
