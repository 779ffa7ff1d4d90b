import EdgeSAM

/// What the model needs of a predictor; ``PredictorEngine`` is one, tests bring their own.
public protocol SegmentationEngine: Sendable {
    /// Encodes an image, once for all prompts on it.
    func encode(_ image: RGBImage) async throws -> any EncodedImage
}

/// An image that answers prompts.
public protocol EncodedImage: Sendable {
    /// Candidates for a prompt in pixels of the image, in the decoder's order.
    func masks(for prompt: Prompt) async throws -> [MaskChoice]
}

/// Segmentation by an ``EdgeSAMPredictor``.
public struct PredictorEngine: SegmentationEngine {
    private let predictor: EdgeSAMPredictor

    public init(_ predictor: EdgeSAMPredictor) {
        self.predictor = predictor
    }

    public func encode(_ image: RGBImage) async throws -> any EncodedImage {
        Encoded(predictor: predictor, embedding: try await predictor.setImage(image))
    }

    private struct Encoded: EncodedImage {
        let predictor: EdgeSAMPredictor
        let embedding: ImageEmbedding

        func masks(for prompt: Prompt) async throws -> [MaskChoice] {
            let candidates = try await predictor.predict(prompt, on: embedding)
            // The masks are made here, off the main thread, and not when a view first asks for them.
            return try candidates.enumerated().map { index, candidate in
                try Task.checkCancellation()
                return MaskChoice(id: index, score: candidate.score, mask: candidate.mask)
            }
        }
    }
}
