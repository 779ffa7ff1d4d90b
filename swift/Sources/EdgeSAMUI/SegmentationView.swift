#if canImport(SwiftUI)
    import EdgeSAM
    import SwiftUI

    /// An image on which an object is selected: a tap marks what belongs to it, a long press what does not, a drag draws
    /// a box around it; below are undo, redo, clear, and the candidates to choose from.
    ///
    /// Everything it shows and does is in its ``SegmentationModel``.
    public struct SegmentationView: View {
        private let model: SegmentationModel

        public init(_ model: SegmentationModel) {
            self.model = model
        }

        public var body: some View {
            VStack(spacing: 0) {
                GeometryReader { proxy in
                    if let image = model.state.image {
                        SelectionArea(model: model, fit: ImageFit(image: image.size, view: proxy.size))
                    } else {
                        ContentUnavailableView("No image", systemImage: "photo")
                    }
                }
                if let failure = model.state.failure {
                    FailureBanner(model: model, failure: failure)
                }
                if model.state.choices.count > 1 {
                    CandidatePicker(model: model)
                }
                SelectionControls(model: model)
            }
        }
    }

    /// The image with what is marked, under the finger.
    private struct SelectionArea: View {
        let model: SegmentationModel
        let fit: ImageFit
        @State private var tracker = TouchTracker()
        @State private var holding: Task<Void, Never>?
        @GestureState private var isTouched = false

        var body: some View {
            ZStack(alignment: .topLeading) {
                Color.clear
                if let picture = model.state.picture {
                    PictureView(picture: picture, frame: fit.frame)
                }
                DraftView(model: model, fit: fit)
                if model.state.isBusy {
                    BusyLabel(activity: model.state.activity)
                        .padding()
                }
            }
            .contentShape(Rectangle())
            .gesture(
                DragGesture(minimumDistance: 0)
                    .updating($isTouched) { _, isTouched, _ in isTouched = true }
                    .onChanged { moved($0) }
                    .onEnded { ended($0) }
            )
            .onChange(of: isTouched) { _, isTouched in
                guard !isTouched else { return }
                // Also where the system takes the touch away, and no end is reported.
                holding?.cancel()
                holding = nil
                model.preview(nil, in: fit)
            }
            .accessibilityElement(children: .ignore)
            .accessibilityLabel(model.state.mask == nil ? "Image" : "Image with a selected object")
            .accessibilityHint("Tap what belongs to the object, hold what does not, or draw a box around it")
        }

        private func moved(_ touch: DragGesture.Value) {
            let time = touch.time.timeIntervalSinceReferenceDate
            model.preview(tracker.moved(from: touch.startLocation, to: touch.location, at: time), in: fit)
            guard holding == nil else { return }
            let wait = tracker.holdS
            holding = Task {
                try? await Task.sleep(for: .seconds(wait))
                guard !Task.isCancelled, let press = tracker.held(until: time + wait) else { return }
                model.handle(press, in: fit)
            }
        }

        private func ended(_ touch: DragGesture.Value) {
            holding?.cancel()
            holding = nil
            let time = touch.time.timeIntervalSinceReferenceDate
            if let gesture = tracker.ended(from: touch.startLocation, at: touch.location, time: time) {
                model.handle(gesture, in: fit)
            }
        }
    }

    /// The picture where the image lies; a view of its own, so that it is made anew for another picture only.
    private struct PictureView: View {
        let picture: RGBImage
        let frame: CGRect

        var body: some View {
            if let image = picture.cgImage() {
                Image(decorative: image, scale: 1)
                    .resizable()
                    .frame(width: frame.width, height: frame.height)
                    .offset(x: frame.minX, y: frame.minY)
            }
        }
    }

    /// The box under the finger, the only thing that every move changes.
    private struct DraftView: View {
        let model: SegmentationModel
        let fit: ImageFit

        var body: some View {
            if let draft = model.draft {
                let frame = fit.frame(of: draft)
                Rectangle()
                    .stroke(Color.yellow, lineWidth: 2)
                    .frame(width: frame.width, height: frame.height)
                    .offset(x: frame.minX, y: frame.minY)
            }
        }
    }

    private struct BusyLabel: View {
        let activity: SegmentationModel.Activity

        var body: some View {
            HStack(spacing: 8) {
                ProgressView()
                Text(words)
                    .font(.footnote)
            }
            .padding(.all, 8)
            .background(.bar)
        }

        private var words: String {
            switch activity {
            case .idle: ""
            case .loading: "Loading the models; the first time takes longer"
            case .encoding: "Looking at the image"
            case .predicting: "Selecting"
            }
        }
    }

    private struct FailureBanner: View {
        let model: SegmentationModel
        let failure: String

        var body: some View {
            HStack(spacing: 8) {
                Label(failure, systemImage: "exclamationmark.triangle")
                    .font(.footnote)
                    .frame(maxWidth: .infinity, alignment: .leading)
                Button("Dismiss", systemImage: "xmark") { model.dismissFailure() }
                    .labelStyle(.iconOnly)
            }
            .padding(.all, 12)
            .background(.bar)
        }
    }

    /// One button for each candidate, with its score.
    private struct CandidatePicker: View {
        let model: SegmentationModel

        var body: some View {
            HStack(spacing: 8) {
                ForEach(model.state.choices) { choice in
                    let isChosen = choice.id == model.state.chosen
                    Button {
                        model.choose(choice.id)
                    } label: {
                        Label(
                            String(format: "%.2f", choice.score),
                            systemImage: isChosen ? "checkmark.circle.fill" : "circle"
                        )
                        .font(.footnote)
                    }
                    .buttonStyle(.bordered)
                    .accessibilityLabel("Mask \(choice.id + 1)")
                    .accessibilityValue(isChosen ? "chosen" : String(format: "score %.2f", choice.score))
                }
            }
            .padding(.all, 8)
        }
    }

    private struct SelectionControls: View {
        let model: SegmentationModel

        var body: some View {
            HStack(spacing: 24) {
                Button("Undo", systemImage: "arrow.uturn.backward") { model.undo() }
                    .disabled(!model.state.canUndo)
                Button("Redo", systemImage: "arrow.uturn.forward") { model.redo() }
                    .disabled(!model.state.canRedo)
                Button("Clear", systemImage: "trash") { model.clear() }
                    .disabled(model.state.selection.isEmpty)
            }
            .labelStyle(.iconOnly)
            .frame(maxWidth: .infinity)
            .padding(.all, 12)
            .background(.bar)
        }
    }
#endif
