import EdgeSAM
import Foundation
import Observation

/// An object being selected on an image: gestures in, masks out.
///
/// Knows no user interface; ``SegmentationView`` shows it. Every change starts what is needed to answer it and cancels
/// what no longer is; an answer that comes too late is dropped. What cannot be answered is taken back, with the reason
/// in ``State/failure``, so that marks and mask always belong together.
@MainActor
@Observable
public final class SegmentationModel {
    /// What goes on.
    public enum Activity: Sendable, Equatable {
        case idle
        /// Loads the models; the first time on a device this may take many seconds.
        case loading
        /// Encodes the image.
        case encoding
        case predicting
    }

    /// All that a view shows.
    public struct State: Sendable, Equatable {
        /// The image as it was given; nil without one.
        public internal(set) var image: RGBImage?
        /// The image with the chosen mask and the marks drawn into it; nil without an image.
        public internal(set) var picture: RGBImage?
        public internal(set) var selection = Selection()
        public internal(set) var activity = Activity.idle
        /// Candidates for the selection, in the decoder's order.
        public internal(set) var choices: [MaskChoice] = []
        /// Id of the chosen candidate.
        public internal(set) var chosen: Int?
        public internal(set) var canUndo = false
        public internal(set) var canRedo = false
        /// Why the latest change was taken back, in words for a person.
        public internal(set) var failure: String?

        public var isBusy: Bool { activity != .idle }

        /// The chosen mask.
        public var mask: BinaryMask? { choices.first { $0.id == chosen }?.mask }
    }

    public private(set) var state = State()
    /// The box that is being dragged; beside the state, because it changes with every move of a finger.
    public private(set) var draft: PromptBox?

    /// Colours of mask, outline and marks.
    @ObservationIgnored public let style: SelectionStyle
    @ObservationIgnored private let makeEngine: @Sendable () async throws -> any SegmentationEngine
    @ObservationIgnored private var engine: Task<any SegmentationEngine, any Error>?
    @ObservationIgnored private var encoding: Task<any EncodedImage, any Error>?
    @ObservationIgnored private var answering: Task<Void, Never>?
    @ObservationIgnored private var drawing: Task<Void, Never>?
    @ObservationIgnored private var history = SelectionHistory()
    /// The selection that ``State/choices`` belong to.
    @ObservationIgnored private var answered: Selection?
    /// Changes so far; an answer to an earlier one is stale.
    @ObservationIgnored private var change = 0
    @ObservationIgnored private var drawings = 0

    /// - Parameters:
    ///   - style: colours.
    ///   - engine: makes the predictor; called with the first image, and again after it has failed.
    public init(
        style: SelectionStyle = SelectionStyle(), engine: @escaping @Sendable () async throws -> any SegmentationEngine
    ) {
        self.style = style
        makeEngine = engine
    }

    /// A model over a predictor that is loaded when the first image is shown.
    public convenience init(encoder: URL, decoder: URL, options: EdgeSAMOptions = EdgeSAMOptions()) {
        self.init { PredictorEngine(try await EdgeSAMPredictor(encoder: encoder, decoder: decoder, options: options)) }
    }

    // MARK: Images

    /// Shows another image, with nothing marked, and starts to encode it.
    public func show(_ image: RGBImage) {
        stop()
        history = SelectionHistory()
        (answered, draft) = (nil, nil)
        state = State(image: image, picture: image)
        answer()
    }

    /// Reports that an image could not be had; the one that is shown stays.
    public func report(_ error: any Error) {
        if !(error is CancellationError) { state.failure = Self.words(error) }
    }

    /// Ends what goes on; marks that were not answered stay, without a mask. See ``retry()``.
    public func cancel() {
        guard state.isBusy else { return }
        stop()
        (state.activity, state.choices, state.chosen, answered) = (.idle, [], nil, nil)
        draw()
    }

    /// Starts again what was cancelled or has failed.
    public func retry() { answer() }

    // MARK: Marks

    /// Takes a finished gesture; one that marks nothing on the image is ignored.
    public func handle(_ gesture: SelectionGesture, in fit: ImageFit) {
        draft = nil
        guard let image = state.image, fit.image == image.size else { return }
        var next = history.current
        switch gesture {
        case .tap(let point):
            guard let pixel = fit.pixel(at: point) else { return }
            next.points.append(PromptPoint(x: pixel.x, y: pixel.y, label: .foreground))
        case .longPress(let point):
            guard let pixel = fit.pixel(at: point) else { return }
            next.points.append(PromptPoint(x: pixel.x, y: pixel.y, label: .background))
        case .drag(let start, let end):
            guard let box = fit.box(from: start, to: end) else { return }
            next.box = box
        }
        history.append(next)
        answer()
    }

    /// Shows a drag that goes on.
    public func preview(_ gesture: SelectionGesture?, in fit: ImageFit) {
        var box: PromptBox?
        if case .drag(let start, let end) = gesture, fit.image == state.image?.size {
            box = fit.box(from: start, to: end)
        }
        if draft != box { draft = box }
    }

    public func undo() {
        guard history.canUndo else { return }
        history.undo()
        answer()
    }

    public func redo() {
        guard history.canRedo else { return }
        history.redo()
        answer()
    }

    /// Takes all marks away; undo brings them back.
    public func clear() {
        guard !history.current.isEmpty else { return }
        history.append(Selection())
        answer()
    }

    /// Chooses a candidate; an id that is none is ignored.
    public func choose(_ id: Int) {
        guard state.choices.contains(where: { $0.id == id }), state.chosen != id else { return }
        state.chosen = id
        draw()
    }

    /// Takes note that the failure has been read.
    public func dismissFailure() { state.failure = nil }

    /// Returns when nothing goes on any more.
    public func settle() async {
        while true {
            let (answering, drawing) = (answering, drawing)
            await answering?.value
            await drawing?.value
            if answering == self.answering, drawing == self.drawing { return }
        }
    }

    // MARK: Answers

    private func stop() {
        change += 1
        answering?.cancel()
        encoding?.cancel()
        drawing?.cancel()
        encoding = nil
    }

    /// Starts what the current selection still needs.
    private func answer(failure: String? = nil) {
        guard let image = state.image else { return }
        change += 1
        answering?.cancel()
        state.selection = history.current
        (state.canUndo, state.canRedo, state.failure) = (history.canUndo, history.canRedo, failure)
        let (mine, selection) = (change, history.current)
        if selection.isEmpty, answered != selection { (state.choices, state.chosen, answered) = ([], nil, nil) }
        draw()
        if selection == answered {
            state.activity = .idle
            return
        }
        answering = Task {
            do {
                let encoded = try await encoded(image, for: mine)
                guard mine == change else { return }
                if selection.isEmpty { return accept([], for: selection, mine) }
                state.activity = .predicting
                accept(try await encoded.masks(for: selection.prompt), for: selection, mine)
            } catch {
                reject(error, for: mine)
            }
        }
    }

    private func accept(_ choices: [MaskChoice], for selection: Selection, _ mine: Int) {
        guard mine == change else { return }
        answered = selection
        state.activity = .idle
        state.choices = choices
        // The first of equals, as the predictor's own `best`; a score that is no number comes last.
        func rank(_ choice: MaskChoice) -> Float { choice.score.isNaN ? -.infinity : choice.score }
        state.chosen = choices.max { rank($0) < rank($1) }?.id
        draw()
    }

    private func reject(_ error: any Error, for mine: Int) {
        guard mine == change else { return }
        state.activity = .idle
        if error is CancellationError { return }
        guard encoding != nil, history.canUndo else {
            // No image to answer on: marks that were made meanwhile stay, and the next one tries again.
            state.failure = Self.words(error)
            return
        }
        history.drop()
        answer(failure: Self.words(error))
    }

    /// The encoded image; models and encoding are started once and shared by all that wait for them.
    private func encoded(_ image: RGBImage, for mine: Int) async throws -> any EncodedImage {
        if let encoding { return try await waiting(for: encoding, as: .encoding, mine) }
        let loading = engine ?? Task { [makeEngine] in try await makeEngine() }
        engine = loading
        let made: any SegmentationEngine
        do {
            made = try await waiting(for: loading, as: .loading, mine)
        } catch {
            if engine == loading { engine = nil }
            throw error
        }
        guard mine == change else { throw CancellationError() }
        let task = encoding ?? Task { try await made.encode(image) }
        encoding = task
        do {
            return try await waiting(for: task, as: .encoding, mine)
        } catch {
            if encoding == task { encoding = nil }
            throw error
        }
    }

    private func waiting<Value: Sendable>(
        for task: Task<Value, any Error>, as activity: Activity, _ mine: Int
    ) async throws -> Value {
        if mine == change { state.activity = activity }
        return try await task.value
    }

    // MARK: Drawing

    private func draw() {
        guard let image = state.image else { return }
        drawing?.cancel()
        drawings += 1
        let mine = drawings
        let drawn = SelectionPicture(image: image, mask: state.mask, selection: state.selection, style: style)
        drawing = Task {
            if let picture = await drawn.render(), mine == drawings { state.picture = picture }
        }
    }

    private static func words(_ error: any Error) -> String {
        (error as? any LocalizedError)?.errorDescription ?? String(describing: error)
    }
}
