import CoreVideo
import EdgeSAMCore
import Foundation

#if canImport(CoreGraphics)
    import CoreGraphics
#endif

/// Masks for prompts on pictures, from an encoder and a decoder that edgesam-export made.
///
/// Encode a picture once with `setImage`, then ask for masks with `predict` as often as you like, on any number of
/// embeddings and from any task: calls overlap, and nothing but the loaded models is shared between them.  Prompts are in
/// pixels of the picture as it was given, origin at the top left.
///
/// Cancelling the task that waits ends the work at the next stage with `CancellationError`.
public actor EdgeSAMPredictor {
    /// Name of the model that both files hold, such as `edge_sam_3x`.
    public nonisolated let model: String
    /// What the encoder says about itself.
    public nonisolated let encoderContract: Contract
    /// What the decoder says about itself.
    public nonisolated let decoderContract: Contract
    /// Prompt slots: a box takes two, points without a box take one more than there are points; nil: no fixed number.
    public nonisolated let slots: Int?

    private let encoder: URL
    private let decoder: URL
    private let options: EdgeSAMOptions
    private var networks: Networks?

    /// Load both models; packages are compiled first, once for each content.
    ///
    /// The very first load on a device makes Core ML specialise the models, which may take many seconds.
    ///
    /// - Parameters:
    ///   - encoder: `.mlpackage` or `.mlmodelc`.
    ///   - decoder: `.mlpackage` or `.mlmodelc` of the same model.
    /// - Throws: `EdgeSAMError` when a file is missing, was not made by edgesam-export or does not fit the other.
    public init(encoder: URL, decoder: URL, options: EdgeSAMOptions = .init()) async throws {
        let networks = try await Networks(encoder: encoder, decoder: decoder, options: options)
        self.encoder = encoder
        self.decoder = decoder
        self.options = options
        self.networks = networks
        model = networks.model
        encoderContract = networks.encoderContract
        decoderContract = networks.decoderContract
        slots = networks.slots
    }

    /// Run both models once, so that the first picture does not wait for buffers and the Neural Engine.
    public func warmUp() async throws {
        let black = try RGBImage(width: 1, height: 1, pixels: [0, 0, 0])
        let embedding = try await setImage(black)
        _ = try await predict(.point(0, 0), on: embedding)
    }

    /// Let go of both models; embeddings and masks stay valid.
    public func unload() {
        networks = nil
    }

    /// Load the models again after `unload`; does nothing when they are loaded.
    public func load() async throws {
        if networks == nil {
            let loaded = try await Networks(encoder: encoder, decoder: decoder, options: options)
            networks = loaded
        }
    }

    // MARK: Pictures

    /// Prepare and encode a picture.
    public func setImage(_ image: RGBImage) async throws -> ImageEmbedding {
        _ = try loaded()  // before the work of preparing
        try Task.checkCancellation()
        return try await encode(await prepare(image))
    }

    /// Copy, prepare and encode a pixel buffer of format 32BGRA.
    ///
    /// It is copied where the caller is, before anything else happens, so that the buffer goes nowhere.
    public func setImage(
        _ pixelBuffer: CVPixelBuffer, isolation: isolated (any Actor)? = #isolation
    ) async throws -> ImageEmbedding {
        let copy = try RGBImage(pixelBuffer)
        return try await setImage(copy)
    }

    #if canImport(CoreGraphics)
        /// Draw as 8-bit sRGB, prepare and encode a picture; the orientation in a photo's metadata is the caller's.
        public func setImage(
            _ image: CGImage, isolation: isolated (any Actor)? = #isolation
        ) async throws -> ImageEmbedding {
            let copy = try RGBImage(image)
            return try await setImage(copy)
        }
    #endif

    // MARK: Prompts

    /// Masks for one prompt, in the order in which the model returns them; see `best`.
    ///
    /// A mask at the size of the picture is made when it is first asked for.
    ///
    /// - Throws: `EdgeSAMError` for a prompt that is empty, outside the picture or too large for the decoder.
    public func predict(_ prompt: Prompt, on embedding: ImageEmbedding) async throws -> [MaskCandidate] {
        try await loaded().decode(prompt, on: embedding)
    }

    // MARK: Stages, for measuring

    /// First stage of `setImage`: resize and pad; not on the actor, so that predictions go on meanwhile.
    public nonisolated func prepare(_ image: RGBImage) async -> PreparedImage {
        ImagePreparer(frame: encoderContract.frame).prepare(image)
    }

    /// Second stage of `setImage`: run the encoder.
    public func encode(_ prepared: PreparedImage) async throws -> ImageEmbedding {
        try await loaded().encode(prepared)
    }

    private func loaded() throws(EdgeSAMError) -> Networks {
        guard let networks else { throw .unloaded }
        return networks
    }
}
