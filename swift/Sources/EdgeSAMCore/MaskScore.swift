import Foundation

/// Scores of masks and the choice among them.
public enum MaskScore {
    /// How little a mask changes when its threshold moves: area above `offset` / area above `-offset`; 0 without area.
    public static func stability(_ logits: [Float], offset: Float = 1) -> Float {
        var (inner, outer) = (0, 0)
        for value in logits {
            if value > offset { inner += 1 }
            if value > -offset { outer += 1 }
        }
        return Float(Double(inner) / Double(max(outer, 1)))
    }

    /// Index of the highest score; the first of equals, never a NaN.
    public static func best(scores: [Float], candidates: Int) throws(MaskScoreError) -> Int {
        guard scores.count == candidates, candidates > 0 else {
            throw .count(scores: scores.count, candidates: candidates)
        }
        var best: Int?
        for (index, score) in scores.enumerated() where !score.isNaN {
            if let leader = best, scores[leader] >= score { continue }
            best = index
        }
        guard let best else { throw .allNaN(candidates: candidates) }
        return best
    }
}

/// Why no mask can be chosen.
public enum MaskScoreError: Error, Equatable, Sendable, LocalizedError {
    case count(scores: Int, candidates: Int)
    case allNaN(candidates: Int)

    public var errorDescription: String? {
        switch self {
        case .count(let scores, let candidates):
            "\(scores) scores for \(candidates) masks; the decoder must return one score for each mask"
        case .allNaN(let candidates):
            "all \(candidates) scores are NaN; check the exported files with `edgesam-export parity`"
        }
    }
}
