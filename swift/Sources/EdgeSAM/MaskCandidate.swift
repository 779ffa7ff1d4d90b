import EdgeSAMCore
import Foundation

/// One of the masks that a prompt may have meant.
public struct MaskCandidate: Sendable {
    /// Which of SAM's mask tokens it comes from: 0 the single mask, 1 to 3 part, part and whole.
    public let token: Int
    /// The decoder's score, higher is better; predicted IoU or stability, as the model was exported.
    public let score: Float
    /// Logit of an object's presence, above 0 when the prompt shows one: the same for all candidates of a prompt, whose
    /// masks do not depend on it. nil when the decoder was exported without `--object-score`.
    public let objectScore: Float?
    /// 256 x 256, row-major, in the model's prompt frame with its padding; above 0 is inside. Fit for `Prompt.mask`.
    public let logits: [Float]
    /// Size of the image and its place in the model's frame.
    public let geometry: ImageGeometry

    private let cache: MaskCache

    init(token: Int, score: Float, objectScore: Float? = nil, logits: [Float], geometry: ImageGeometry) {
        self.token = token
        self.score = score
        self.objectScore = objectScore
        self.logits = logits
        self.geometry = geometry
        cache = MaskCache()
    }

    /// The mask at the size of the image; made when first asked for, then kept (one byte for each pixel).
    public var mask: BinaryMask {
        cache.value { MaskProcessor(geometry: geometry).mask(logits) }
    }

    /// The mask at the resolution of the logits, at most 256 pixels a side: quick, for drawing while a user drags.
    public var preview: BinaryMask { MaskProcessor(geometry: geometry).preview(logits) }

    /// How little the mask changes when its threshold moves by 1 up or down, 0 to 1; from the logits.
    public var stabilityScore: Float { MaskScore.stability(logits) }

    /// Smallest box around the mask in pixels of the image, nil when the mask is empty; makes the mask.
    public var boundingBox: BinaryMask.BoundingBox? { mask.boundingBox }
}

extension [MaskCandidate] {
    /// The candidate with the highest score, the first of equals; nil only without candidates.
    public var best: MaskCandidate? {
        guard let index = try? MaskScore.best(scores: map(\.score), candidates: count) else { return nil }
        return self[index]
    }
}

/// A mask that is computed at most once; copies of a candidate share it.
private final class MaskCache: @unchecked Sendable {
    private let lock = NSLock()
    private var mask: BinaryMask?

    func value(_ make: () -> BinaryMask) -> BinaryMask {
        lock.withLock {
            if let mask { return mask }
            let made = make()
            mask = made
            return made
        }
    }
}
