import Foundation

/// Why a prompt cannot be given to a decoder.
public enum PromptError: Error, Equatable, Sendable {
    /// Neither points nor a box nor a mask.
    case empty
    case pointOutside(PromptPoint, picture: PixelSize)
    case boxOutside(PromptBox, picture: PixelSize)
    /// A box without area, or with its corners exchanged.
    case boxReversed(PromptBox)
    /// More tokens than the decoder has slots.
    case tooManySlots(needed: Int, slots: Int, points: Int, hasBox: Bool)
    case maskSize(count: Int)
    case maskNotFinite(index: Int)
}

extension PromptError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .empty:
            return "no prompt: give at least one point, a box or a mask"
        case .pointOutside(let point, let size):
            return "point (\(shown(point.x)), \(shown(point.y))) is outside the image of \(size.width)x\(size.height)"
                + " pixels; x must be at least 0 and below \(size.width), y at least 0 and below \(size.height)"
        case .boxOutside(let box, let size):
            return "\(shown(box)) is outside the image of \(size.width)x\(size.height) pixels;"
                + " x must lie in 0 to \(size.width) and y in 0 to \(size.height)"
        case .boxReversed(let box):
            return "\(shown(box)) is reversed or empty; give two corners x0 y0 x1 y1 with x0 below x1 and y0 below"
                + " y1, not a corner with width and height"
        case .tooManySlots(let needed, let slots, let points, let hasBox):
            let others = needed - points
            let padding = others > 2 ? ", 1 more for the padding point" : ""
            let why = hasBox ? ", the box takes 2\(padding)" : others > 0 ? ", 1 more because there is no box" : ""
            return "the prompt needs \(needed) slots (points: \(points)\(why)) but the decoder has \(slots);"
                + " export it again with --points \(needed) or give fewer points"
        case .maskSize(let count):
            let side = Prompt.maskSide
            return "the mask prompt has \(count) values; give the \(side)x\(side) logits of an earlier prediction"
        case .maskNotFinite(let index):
            let (row, column) = (index / Prompt.maskSide, index % Prompt.maskSide)
            return "the mask prompt is not finite at row \(row), column \(column);"
                + " give the logits of an earlier prediction"
        }
    }

    /// Shortest text of a number, integers without a point.
    private func shown(_ value: Double) -> String {
        let text = "\(value)"
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }

    private func shown(_ box: PromptBox) -> String {
        "box (\(shown(box.x0)), \(shown(box.y0)), \(shown(box.x1)), \(shown(box.y1)))"
    }
}
