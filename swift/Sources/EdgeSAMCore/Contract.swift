import Foundation

/// What an exported file says about itself: frame, tensors, origin of the weights. Unknown fields are ignored.
public struct Contract: Sendable, Hashable {
    /// Key of the JSON text in Core ML's user-defined metadata.
    public static let metadataKey = "edgesam_export.contract"
    /// The version of the contract this code reads.
    public static let schemaVersion = 1

    public enum Component: String, Sendable, Hashable, CaseIterable {
        case encoder
        case decoder
        /// Boxes for point prompts; nothing here runs them.
        case proposals
    }

    /// Which of several files, run one after the other, that make up one component.
    public struct Part: Sendable, Hashable {
        /// Counted from 1.
        public let number: Int
        public let of: Int

        public init(number: Int, of: Int) { (self.number, self.of) = (number, of) }
    }

    /// One size of a shape.
    public enum Dimension: Sendable, Hashable {
        case fixed(Int)
        /// A dimension of any size, by its name.
        case free(String)
    }

    /// One input or output.
    public struct Tensor: Sendable, Hashable {
        public let name: String
        public let shape: [Dimension]
        /// `fp16`, `fp32`, `uint8` or `image`.
        public let dtype: String
        public let description: String
    }

    /// Where the parameters come from.
    public struct Weights: Sendable, Hashable {
        public let source: String
        public let sha256: String?
        public let licence: String
        /// Seed of stand-in weights whose masks mean nothing; nil for trained ones.
        public let randomSeed: Int?

        /// The file, or that they are random, in words.
        var origin: String {
            if let randomSeed { return "random weights (seed \(randomSeed))" }
            return "\(source) (sha256 \(sha256?.prefix(12) ?? "unknown"))"
        }
    }

    public let schemaVersion: Int
    public let model: String
    public let family: String
    public let component: Component
    /// Which part of its component the file is; nil for a whole one.
    public let part: Part?
    public let profile: String
    /// The frame with everything that images, prompts and masks need, `padding_point` included.
    public let frame: ImageFrame
    public let inputs: [Tensor]
    public let outputs: [Tensor]
    /// Prompt slots of a decoder; nil when their number is free, and for an encoder.
    public let slots: Int?
    /// Prompts that a decoder takes at once; 1 for an encoder.
    public let queries: Int
    /// Whether a decoder returns the logit of an object's presence.
    public let scoresObjects: Bool
    /// Whether a decoder takes a mask prompt.
    public let maskInput: Bool
    /// Indexes of the mask tokens a decoder returns masks for, in order; empty for an encoder.
    public let candidates: [Int]
    /// What a decoder's scores are, `iou` or `stability`; nil for an encoder.
    public let score: String?
    /// Kinds of prompt that the weights were trained on, as `Prompt.kind` names them; nil when the file does not say.
    public let trainedPrompts: [String]?
    /// Kind of images that the weights were trained on, as a phrase; nil when the file does not say.
    public let imageDomain: String?
    /// Whether an encoder takes an 8-bit image instead of a tensor.
    public let imageInput: Bool
    public let weights: Weights

    /// Read the JSON text of the metadata.
    public init(json text: String) throws(ContractError) { try self.init(json: Data(text.utf8)) }

    /// Read the bytes of the metadata's JSON text.
    public init(json data: Data) throws(ContractError) {
        guard data.count <= Self.mostBytes else { throw .notAContract("it has \(data.count) bytes") }
        // The version comes first: a newer contract is newer, not damaged.
        let version = try Self.decode(ContractFields.Version.self, from: data).schemaVersion
        guard version == Self.schemaVersion else { throw .schemaVersion(version) }
        let fields = try Self.decode(ContractFields.self, from: data)
        schemaVersion = version
        model = fields.model
        family = fields.family
        component = try Self.choice(fields.component, field: "component")
        part = try fields.part.map { numbers throws(ContractError) in try Self.checked(part: numbers) }
        profile = fields.profile
        frame = try ImageFrame(
            fields.frame, paddingPoint: fields.paddingPoint ?? true, boxPaddingPoint: fields.boxPaddingPoint ?? false)
        inputs = try Self.tensors(fields.inputs, field: "inputs")
        outputs = try Self.tensors(fields.outputs, field: "outputs")
        slots = try fields.slots.map { slots throws(ContractError) in
            try Self.within(slots, 1...4096, field: "slots")
        }
        queries = try Self.within(fields.queries ?? 1, 1...64, field: "queries")
        scoresObjects = fields.objectScore ?? false
        maskInput = fields.maskInput ?? false
        candidates = try Self.checked(candidates: fields.candidates ?? [], component)
        score = fields.score
        trainedPrompts = fields.trainedPrompts
        imageDomain = fields.imageDomain
        imageInput = fields.imageInput ?? false
        weights = Weights(
            source: fields.weights.source, sha256: fields.weights.sha256, licence: fields.weights.licence,
            randomSeed: fields.weights.randomSeed)
    }
}

extension Contract {
    /// What a developer should know of a prompt that the weights were not trained on; nil for any other.
    public func warning(for prompt: Prompt) -> String? {
        guard let trainedPrompts, !trainedPrompts.isEmpty, !trainedPrompts.contains(prompt.kind) else { return nil }
        return "the weights of \(model) were trained on prompts of kind \(trainedPrompts.joined(separator: ", ")), "
            + "not \(prompt.kind); masks may be wrong"
    }

    /// What a developer should know of a decoder that was exported from other weights than this encoder; nil for a pair.
    ///
    /// A decoder of an earlier export fits in every name and shape, and makes wrong masks.
    public func warning(beside decoder: Contract) -> String? {
        let (own, other) = (weights.origin, decoder.weights.origin)
        return own == other
            ? nil
            : "the encoder is from \(own), the decoder from \(other); unless one was trained for the other, "
                + "export them together"
    }
}
