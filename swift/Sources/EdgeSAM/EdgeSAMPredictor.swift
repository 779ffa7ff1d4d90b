import CoreVideo
import EdgeSAMCore
import Foundation

#if canImport(CoreGraphics)
    import CoreGraphics
#endif
#if canImport(UIKit)
    import UIKit
#elseif canImport(AppKit)
    import AppKit
#endif

/// Masks for prompts on images, from an encoder and a decoder that edgesam-export made.
///
/// Encode an image once with `setImage`, then ask for masks with `predict` as often as you like, on any number of
/// embeddings and from any task: calls overlap, and nothing but the loaded models is shared between them.  Prompts are in
/// pixels of the image as it was given, origin at the top left.
///
/// Cancelling the task that waits ends the work at the next stage with `CancellationError` and leaves the predictor as it
/// was.
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
    /// Warnings that were logged; each is logged once.
    private var warned: Set<String> = []
    /// A load that goes on, for whoever asks meanwhile.
    private var loading: Task<Networks, any Error>?
    /// How often `load` started to load.
    private(set) var loadCount = 0

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
        if let warning = encoderContract.warning(beside: decoderContract) { log(warning) }
    }

    /// Run both models once, so that the first image does not wait for buffers and the Neural Engine.
    public func warmUp() async throws {
        let black = try RGBImage(width: 1, height: 1, pixels: [0, 0, 0])
        let embedding = try await setImage(black)
        _ = try await loaded().decode(.point(0, 0), on: embedding)
    }

    /// Release both models; embeddings and masks stay valid.
    public func unload() {
        networks = nil
        loading = nil
    }

    /// Load the models again after `unload`; does nothing when they are loaded.
    ///
    /// Callers at the same time share one load, which goes on when one of them is cancelled.
    public func load() async throws {
        if networks != nil { return }
        let task = loading ?? startLoading()
        let outcome = await task.result
        // Otherwise it was unloaded meanwhile, or another caller was here first.
        if loading == task {
            loading = nil
            networks = try? outcome.get()
        }
        try Task.checkCancellation()
        _ = try outcome.get()
    }

    private func startLoading() -> Task<Networks, any Error> {
        let (encoder, decoder, options) = (encoder, decoder, options)
        let task = Task { try await Networks(encoder: encoder, decoder: decoder, options: options) }
        loading = task
        loadCount += 1
        return task
    }

    // MARK: Images

    /// Prepare and encode an image.
    public func setImage(
        _ image: RGBImage, preparation: ImagePreparation = .exact
    ) async throws -> ImageEmbedding {
        _ = try loaded()  // before the work of preparing
        try Task.checkCancellation()
        return try await encode(await prepare(image, preparation))
    }

    /// Copy, prepare and encode a pixel buffer of format 32BGRA, 420f or 420v.
    ///
    /// It is copied where the caller is, before anything else happens, so that the buffer goes nowhere.
    ///
    /// - Parameters:
    ///   - orientation: how the buffer is to be turned; prompts and masks are then in pixels of the upright image.
    ///   - preparation: `.fast` for video: converted and shrunk in one step where the system can, and then in any format
    ///     that Video Toolbox reads.
    public func setImage(
        _ pixelBuffer: CVPixelBuffer, orientation: ImageOrientation = .up, preparation: ImagePreparation = .exact,
        isolation: isolated (any Actor)? = #isolation
    ) async throws -> ImageEmbedding {
        switch preparation {
        case .exact:
            let copy = try RGBImage(pixelBuffer, orientation: orientation)
            return try await setImage(copy)
        case .fast:
            let prepared = try FastPreparation.prepare(
                pixelBuffer, orientation: orientation, frame: encoderContract.frame)
            return try await encode(prepared)
        }
    }

    #if canImport(CoreGraphics)
        /// Draw as 8-bit sRGB, prepare and encode an image.
        ///
        /// - Parameters:
        ///   - orientation: what a photo's metadata say; prompts and masks are then in pixels of the upright image.
        ///   - maximumSide: longest side in pixels of the copy that prompts and masks refer to; nil keeps the size.
        public func setImage(
            _ image: CGImage, orientation: ImageOrientation = .up, maximumSide: Int? = nil,
            isolation: isolated (any Actor)? = #isolation
        ) async throws -> ImageEmbedding {
            let copy = try RGBImage(image, orientation: orientation, maximumSide: maximumSide)
            return try await setImage(copy)
        }
    #endif

    #if canImport(UIKit)
        /// Copy upright, prepare and encode an image; sizes are in pixels, not points.
        public func setImage(
            _ image: UIImage, maximumSide: Int? = nil, isolation: isolated (any Actor)? = #isolation
        ) async throws -> ImageEmbedding {
            let copy = try RGBImage(image, maximumSide: maximumSide)
            return try await setImage(copy)
        }
    #elseif canImport(AppKit)
        /// Copy, prepare and encode an image; sizes are in pixels, not points.
        public func setImage(
            _ image: NSImage, maximumSide: Int? = nil, isolation: isolated (any Actor)? = #isolation
        ) async throws -> ImageEmbedding {
            let copy = try RGBImage(image, maximumSide: maximumSide)
            return try await setImage(copy)
        }
    #endif

    #if canImport(ImageIO)
        /// Read a file upright, prepare and encode it; `geometry.source` of the embedding says the size that prompts and
        /// masks refer to.
        ///
        /// - Parameter maximumSide: longest side in pixels; larger files are shrunk while they are decoded.
        public nonisolated func setImage(
            contentsOf url: URL, maximumSide: Int = RGBImage.defaultMaximumSide
        ) async throws -> ImageEmbedding {
            try await setImage(try RGBImage(contentsOf: url, maximumSide: maximumSide))
        }

        /// The same for the bytes of a file.
        public nonisolated func setImage(
            data: Data, maximumSide: Int = RGBImage.defaultMaximumSide
        ) async throws -> ImageEmbedding {
            try await setImage(try RGBImage(data: data, maximumSide: maximumSide))
        }
    #endif

    // MARK: Prompts

    /// Masks for one prompt, in the order in which the model returns them; see `best`.
    ///
    /// A mask at the size of the image is made when it is first asked for.
    ///
    /// - Throws: `EdgeSAMError` for a prompt that is empty, outside the image or too large for the decoder.
    public func predict(_ prompt: Prompt, on embedding: ImageEmbedding) async throws -> [MaskCandidate] {
        logWarnings(for: prompt, on: embedding)
        return try await loaded().decode(prompt, on: embedding)
    }

    /// Masks for several prompts, in their order; the decoder runs as many at once as it was exported for (`--queries`,
    /// `decoderContract.queries`). What a prompt gets does not depend on the others.
    ///
    /// - Throws: as for one prompt, before any of them is run.
    public func predict(_ prompts: [Prompt], on embedding: ImageEmbedding) async throws -> [[MaskCandidate]] {
        let networks = try loaded()
        for prompt in prompts { try networks.check(prompt, on: embedding) }
        var found: [[MaskCandidate]] = []
        for start in stride(from: 0, to: prompts.count, by: decoderContract.queries) {
            let some = Array(prompts[start..<min(start + decoderContract.queries, prompts.count)])
            for prompt in some { logWarnings(for: prompt, on: embedding) }
            found += try await networks.decode(some, on: embedding)
        }
        return found
    }

    // MARK: Stages, for measuring

    /// First stage of `setImage`: resize and pad; not on the actor, so that predictions go on meanwhile.
    public nonisolated func prepare(
        _ image: RGBImage, _ preparation: ImagePreparation = .exact
    ) async -> PreparedImage {
        ImagePreparer(frame: encoderContract.frame).prepare(image, preparation)
    }

    /// Second stage of `setImage`: run the encoder.
    public func encode(_ prepared: PreparedImage) async throws -> ImageEmbedding {
        try await loaded().encode(prepared)
    }

    private func loaded() throws(EdgeSAMError) -> Networks {
        guard let networks else { throw .unloaded }
        return networks
    }

    /// Log, each once, that a prompt is perhaps not meant as it is used, or that the weights were not trained on its kind.
    private func logWarnings(for prompt: Prompt, on embedding: ImageEmbedding) {
        let warnings = prompt.warnings(in: embedding.geometry.source) + [decoderContract.warning(for: prompt)]
        for case let warning? in warnings where warned.insert(warning).inserted { log(warning) }
    }

    private nonisolated func log(_ warning: String) {
        NSLog("EdgeSAM: " + warning.replacingOccurrences(of: "%", with: "%%"))
    }
}
