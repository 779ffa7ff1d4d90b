/// Selections one after the other, with a position that undo and redo move.
struct SelectionHistory: Sendable, Equatable {
    /// The oldest steps are forgotten beyond this.
    static let mostSteps = 100

    private var steps = [Selection()]
    private var position = 0

    var current: Selection { steps[position] }
    var canUndo: Bool { position > 0 }
    var canRedo: Bool { position < steps.count - 1 }

    /// Makes a selection the current one; what was undone before cannot be redone any more.
    mutating func append(_ selection: Selection) {
        steps.removeSubrange((position + 1)...)
        steps.append(selection)
        steps.removeFirst(max(0, steps.count - Self.mostSteps))
        position = steps.count - 1
    }

    mutating func undo() { position = max(position - 1, 0) }

    mutating func redo() { position = min(position + 1, steps.count - 1) }

    /// Forgets the current selection, as if it had never been made.
    mutating func drop() {
        guard canUndo else { return }
        steps.remove(at: position)
        position -= 1
    }
}
