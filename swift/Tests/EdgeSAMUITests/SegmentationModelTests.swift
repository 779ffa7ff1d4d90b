import EdgeSAM
import Foundation
import Testing

@testable import EdgeSAMUI

@MainActor
@Suite struct SegmentationModelTests {
    /// An image of 20 x 10 pixels in a view of 40 x 40 points: two points a pixel, ten points above the image.
    private let fit = ImageFit(image: PixelSize(width: 20, height: 10), view: CGSize(width: 40, height: 40))

    private func model(_ engine: FakeEngine, image: RGBImage? = nil) async throws -> SegmentationModel {
        let model = SegmentationModel { engine }
        model.show(try image ?? grey(20, 10))
        await model.settle()
        return model
    }

    private func tap(_ x: CGFloat, _ y: CGFloat) -> SelectionGesture { .tap(CGPoint(x: 2 * x, y: 10 + 2 * y)) }

    // MARK: Gestures

    @Test func gesturesBecomeAPromptInPixels() async throws {
        let engine = FakeEngine()
        let model = try await model(engine)
        model.handle(.tap(CGPoint(x: 7, y: 15)), in: fit)
        await model.settle()
        model.handle(.longPress(CGPoint(x: 39, y: 29)), in: fit)
        await model.settle()
        model.handle(.drag(from: CGPoint(x: 30, y: 28), to: CGPoint(x: 2, y: 12)), in: fit)
        await model.settle()
        let first = PromptPoint(x: 3.5, y: 2.5, label: .foreground)
        let second = PromptPoint(x: 19.5, y: 9.5, label: .background)
        #expect(
            engine.prompts == [
                Prompt(points: [first]), Prompt(points: [first, second]),
                Prompt(points: [first, second], box: PromptBox(x0: 1, y0: 1, x1: 15, y1: 9)),
            ])
        #expect(model.state.selection.prompt == engine.prompts.last)
        #expect(model.state.activity == .idle)
    }

    @Test func aSecondBoxTakesThePlaceOfTheFirst() async throws {
        let engine = FakeEngine()
        let model = try await model(engine)
        model.handle(.drag(from: CGPoint(x: 0, y: 10), to: CGPoint(x: 10, y: 20)), in: fit)
        model.handle(.drag(from: CGPoint(x: 20, y: 10), to: CGPoint(x: 40, y: 30)), in: fit)
        await model.settle()
        #expect(model.state.selection == Selection(box: PromptBox(x0: 10, y0: 0, x1: 20, y1: 10)))
        model.undo()
        #expect(model.state.selection.box == PromptBox(x0: 0, y0: 0, x1: 5, y1: 5))
    }

    @Test func whatMarksNothingIsIgnored() async throws {
        let engine = FakeEngine()
        let model = try await model(engine)
        let other = ImageFit(image: PixelSize(width: 21, height: 10), view: fit.view)
        model.handle(.tap(CGPoint(x: 7, y: 9)), in: fit)  // above the image
        model.handle(.longPress(CGPoint(x: 41, y: 15)), in: fit)
        model.handle(.drag(from: CGPoint(x: 3, y: 15), to: CGPoint(x: 4, y: 29)), in: fit)  // half a pixel wide
        model.handle(.tap(CGPoint(x: 7, y: 15)), in: other)  // laid out for another image
        await model.settle()
        #expect(model.state.selection.isEmpty && engine.prompts.isEmpty && !model.state.canUndo)
        let empty = SegmentationModel { engine }
        empty.handle(.tap(.zero), in: fit)
        empty.undo()
        empty.clear()
        empty.choose(0)
        empty.retry()
        await empty.settle()
        #expect(empty.state == SegmentationModel.State())
    }

    @Test func aDragIsShownWhileItGoesOn() async throws {
        let model = try await model(FakeEngine())
        let drag = SelectionGesture.drag(from: CGPoint(x: 0, y: 10), to: CGPoint(x: 20, y: 20))
        model.preview(drag, in: fit)
        #expect(model.draft == PromptBox(x0: 0, y0: 0, x1: 10, y1: 5))
        model.preview(nil, in: fit)
        #expect(model.draft == nil)
        model.preview(drag, in: fit)
        model.handle(drag, in: fit)
        #expect(model.draft == nil && model.state.selection.box != nil)
    }

    // MARK: Masks

    @Test func theBestCandidateIsChosenAndAnotherCanBe() async throws {
        let engine = FakeEngine()
        let model = try await model(engine)
        model.handle(tap(3, 2), in: fit)
        await model.settle()
        #expect(model.state.choices.map(\.score) == [0.5, 0.9, 0.9])
        #expect(model.state.chosen == 1)  // the first of equals
        let before = model.state.picture
        model.choose(0)
        await model.settle()
        #expect(model.state.mask == model.state.choices[0].mask)
        #expect(model.state.picture != before)
        model.choose(7)
        #expect(model.state.chosen == 0)
        #expect(engine.prompts.count == 1)  // nothing is asked again
    }

    @Test func aScoreThatIsNoNumberIsNeverTheBest() async throws {
        let engine = FakeEngine { prompt, size in try choices([.nan, -3, .nan], for: prompt, size) }
        let model = try await model(engine)
        model.handle(tap(3, 2), in: fit)
        await model.settle()
        #expect(model.state.chosen == 1)
        engine.answers { _, _ in [] }
        model.handle(tap(4, 2), in: fit)
        await model.settle()
        #expect(model.state.chosen == nil && model.state.mask == nil && model.state.failure == nil)
    }

    @Test func thePictureIsTheImageWithMaskAndMarks() async throws {
        let model = try await model(FakeEngine(), image: try grey(200, 100))
        #expect(model.state.picture == (try grey(200, 100)))
        let fit = ImageFit(image: PixelSize(width: 200, height: 100), view: CGSize(width: 200, height: 100))
        model.handle(.tap(CGPoint(x: 150, y: 50)), in: fit)
        await model.settle()
        let image = try grey(200, 100)
        let marked = SelectionPicture(image: image, mask: model.state.mask, selection: model.state.selection)
        #expect(model.state.picture == (await marked.render()))
        #expect(model.state.picture != image)
        model.clear()
        await model.settle()
        #expect(model.state.picture == image)
    }

    // MARK: Undo and redo

    @Test func undoAndRedoAskForWhatIsMarkedThen() async throws {
        let engine = FakeEngine()
        let model = try await model(engine)
        for x in 1...3 {
            model.handle(tap(CGFloat(x), 2), in: fit)
            await model.settle()
        }
        model.undo()
        await model.settle()
        #expect(engine.prompts.last?.points.map(\.x) == [1, 2])
        #expect(model.state.canUndo && model.state.canRedo)
        model.redo()
        await model.settle()
        #expect(engine.prompts.last?.points.map(\.x) == [1, 2, 3])
        #expect(!model.state.canRedo)
        model.clear()
        await model.settle()
        #expect(model.state.choices.isEmpty && model.state.mask == nil)
        model.undo()
        await model.settle()
        #expect(engine.prompts.last?.points.map(\.x) == [1, 2, 3])
        model.handle(tap(9, 2), in: fit)  // the cleared state cannot be redone any more
        #expect(!model.state.canRedo)
        for _ in 0..<9 { model.undo() }
        await model.settle()
        #expect(model.state.selection.isEmpty && !model.state.canUndo && model.state.choices.isEmpty)
    }

    @Test func undoingAtOnceWhatWasClearedBringsTheMaskBack() async throws {
        let engine = FakeEngine()
        let model = try await model(engine)
        model.handle(tap(3, 2), in: fit)
        await model.settle()
        let mask = model.state.mask
        model.clear()
        model.undo()
        await model.settle()
        #expect(model.state.mask == mask && mask != nil)
        model.handle(tap(4, 2), in: fit)
        model.undo()  // before it was answered: the mask that is shown is the right one already
        #expect(model.state.mask == mask && !model.state.isBusy)
    }

    /// Any sequence of changes, against a list with a position.
    @Test(arguments: 0..<20) func anySequenceLeavesWhatAListWouldHold(seed: UInt64) async throws {
        var random = Stream(state: seed)
        let engine = FakeEngine()
        let model = try await model(engine)
        var (steps, position) = ([[Double]()], 0)
        for step in 0..<40 {
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1, 2:
                let x = Double(Int.random(in: 0..<20, using: &random))
                model.handle(tap(CGFloat(x), 1), in: fit)
                steps = Array(steps[...position]) + [steps[position] + [x]]
                position += 1
            case 3:
                model.undo()
                position = max(0, position - 1)
            case 4:
                model.redo()
                position = min(steps.count - 1, position + 1)
            default:
                model.clear()
                if !steps[position].isEmpty {
                    steps = Array(steps[...position]) + [[]]
                    position += 1
                }
            }
            #expect(model.state.selection.points.map(\.x) == steps[position], "step \(step)")
            #expect(model.state.canUndo == (position > 0) && model.state.canRedo == (position < steps.count - 1))
            if step % 3 == 0 { await model.settle() }
        }
        await model.settle()
        #expect(model.state.choices.isEmpty == steps[position].isEmpty)
        if !steps[position].isEmpty { #expect(engine.prompts.last?.points.map(\.x) == steps[position]) }
        #expect(model.state.activity == .idle)
    }

    @Test func theOldestStepsAreForgotten() {
        var history = SelectionHistory()
        for x in 0..<500 { history.append(Selection(points: [PromptPoint(x: Double(x), y: 0)])) }
        var undone = 0
        while history.canUndo {
            history.undo()
            undone += 1
        }
        #expect(undone == SelectionHistory.mostSteps - 1)
        #expect(history.current.points[0].x == Double(500 - SelectionHistory.mostSteps))
    }

    // MARK: Time

    @Test func whatGoesOnIsShownInOrder() async throws {
        let (loading, encoding, predicting) = (Gate(), Gate(), Gate())
        let engine = FakeEngine(encode: { _ in await encoding.pass() })
        engine.answers { prompt, size in
            await predicting.pass()
            return try choices([1], for: prompt, size)
        }
        let model = SegmentationModel {
            await loading.pass()
            return engine
        }
        #expect(!model.state.isBusy)
        model.show(try grey(20, 10))
        await loading.arrival()
        #expect(model.state.activity == .loading)
        await loading.open()
        await encoding.arrival()
        #expect(model.state.activity == .encoding)
        model.handle(tap(3, 2), in: fit)
        await encoding.open()
        await predicting.arrival()
        #expect(model.state.activity == .predicting && model.state.isBusy)
        #expect(model.state.choices.isEmpty)
        await predicting.open()
        await model.settle()
        #expect(model.state.activity == .idle && model.state.choices.count == 1)
    }

    @Test func marksMadeWhileTheImageIsEncodedAreAnsweredOnceAndTogether() async throws {
        let encoding = Gate()
        let engine = FakeEngine(encode: { _ in await encoding.pass() })
        let model = SegmentationModel { engine }
        model.show(try grey(20, 10))
        await encoding.arrival()
        for x in 1...3 { model.handle(tap(CGFloat(x), 2), in: fit) }
        await encoding.open()
        await model.settle()
        #expect(engine.log == ["encode 20x10", "predict"])
        #expect(engine.prompts[0].points.map(\.x) == [1, 2, 3])
    }

    @Test func anAnswerThatComesTooLateIsDropped() async throws {
        let slow = Gate()
        let engine = FakeEngine { prompt, size in
            if prompt.points.count == 1 { await slow.pass() }  // deaf to cancellation, as Core ML is
            return try choices([Float(prompt.points.count)], for: prompt, size)
        }
        let model = try await model(engine)
        model.handle(tap(3, 2), in: fit)
        await slow.arrival()
        model.handle(tap(4, 2), in: fit)
        await model.settle()
        #expect(model.state.choices.map(\.score) == [2])
        await slow.open()
        for _ in 0..<100 { await Task.yield() }
        #expect(model.state.choices.map(\.score) == [2])
        #expect(model.state.activity == .idle)
    }

    @Test func anotherImageEndsTheWorkOnTheFirst() async throws {
        let first = Gate()
        let engine = FakeEngine(encode: { image in
            if image.width == 20 { await first.pass() }
            try Task.checkCancellation()
        })
        let model = SegmentationModel { engine }
        model.show(try grey(20, 10))
        await first.arrival()
        model.handle(tap(3, 2), in: fit)
        model.show(try grey(6, 6, 7))
        #expect(model.state.selection.isEmpty && !model.state.canUndo)
        await model.settle()
        await first.open()
        for _ in 0..<100 { await Task.yield() }
        let second = try grey(6, 6, 7)
        #expect(model.state.image == second && model.state.picture == second)
        #expect(model.state.activity == .idle && model.state.failure == nil && engine.prompts.isEmpty)
    }

    @Test func cancellingLeavesTheMarksAndAUsableModel() async throws {
        let (slow, seen) = (Gate(), Gate(isOpen: true))
        let engine = FakeEngine { prompt, size in
            await slow.pass()
            if Task.isCancelled { await seen.pass() }
            try Task.checkCancellation()
            return try choices([1], for: prompt, size)
        }
        let model = try await model(engine)
        model.handle(tap(3, 2), in: fit)
        await slow.arrival()
        model.cancel()
        #expect(model.state.activity == .idle && model.state.choices.isEmpty && model.state.failure == nil)
        #expect(model.state.selection.points.count == 1)
        await slow.open()
        await seen.arrival()
        model.retry()
        await model.settle()
        #expect(model.state.choices.count == 1 && model.state.failure == nil)
    }

    @Test func cancellingWhileTheImageIsEncodedEncodesItAgainLater() async throws {
        let encoding = Gate()
        let engine = FakeEngine(encode: { _ in
            await encoding.pass()
            try Task.checkCancellation()
        })
        let model = SegmentationModel { engine }
        model.show(try grey(20, 10))
        await encoding.arrival()
        model.cancel()
        await encoding.open()
        await model.settle()
        #expect(model.state.activity == .idle && model.state.failure == nil)
        model.handle(tap(3, 2), in: fit)
        await model.settle()
        #expect(engine.log == ["encode 20x10", "encode 20x10", "predict"])
        #expect(model.state.choices.count == 3)
        let before = model.state
        model.cancel()  // nothing goes on
        #expect(model.state == before)
    }

    // MARK: Failures

    @Test func aMarkThatCannotBeAnsweredIsTakenBackWithTheReason() async throws {
        let engine = FakeEngine { prompt, size in
            if prompt.points.count == 3 { throw Trouble("too many points") }
            return try choices([1], for: prompt, size)
        }
        let model = try await model(engine)
        for x in 1...2 {
            model.handle(tap(CGFloat(x), 2), in: fit)
            await model.settle()
        }
        let good = model.state.mask
        model.handle(tap(3, 2), in: fit)
        await model.settle()
        #expect(model.state.failure == "too many points")
        #expect(model.state.selection.points.map(\.x) == [1, 2] && model.state.mask == good)
        #expect(!model.state.canRedo)
        model.dismissFailure()
        #expect(model.state.failure == nil)
        model.undo()
        await model.settle()
        #expect(model.state.selection.points.map(\.x) == [1] && model.state.failure == nil)
    }

    @Test func everyMarkThatFailsIsTakenBack() async throws {
        let engine = FakeEngine { _, _ in throw EdgeSAMError.predictionFailed(.decoder, reason: "no luck") }
        let model = try await model(engine)
        for x in 1...3 { model.handle(tap(CGFloat(x), 2), in: fit) }
        await model.settle()
        #expect(model.state.selection.isEmpty && model.state.activity == .idle)
        #expect(model.state.failure == EdgeSAMError.predictionFailed(.decoder, reason: "no luck").errorDescription)
    }

    @Test func marksStayWhereTheImageCannotBeEncodedAndTheNextTryAnswersThem() async throws {
        let engine = FakeEngine(encode: { _ in throw Trouble("out of memory") })
        let model = SegmentationModel { engine }
        model.show(try grey(20, 10))
        model.handle(tap(1, 2), in: fit)
        await model.settle()
        #expect(model.state.failure == "out of memory" && model.state.activity == .idle)
        #expect(model.state.selection.points.count == 1 && model.state.choices.isEmpty)
        engine.encodes { _ in }
        model.retry()
        await model.settle()
        #expect(model.state.failure == nil && model.state.choices.count == 3)
    }

    @Test func modelsThatCannotBeLoadedAreTriedAgainAndLoadedOnce() async throws {
        let (engine, attempts) = (FakeEngine(), Gate(isOpen: true))
        let model = SegmentationModel {
            await attempts.pass()
            if await attempts.arrivals == 1 { throw EdgeSAMError.missingFile(path: "/encoder.mlmodelc") }
            return engine
        }
        model.show(try grey(20, 10))
        await model.settle()
        #expect(model.state.failure?.contains("no file at '/encoder.mlmodelc'") == true)
        model.handle(tap(1, 2), in: fit)
        model.handle(tap(2, 2), in: fit)
        await model.settle()
        #expect(model.state.failure == nil && model.state.choices.count == 3)
        model.show(try grey(20, 10, 3))
        await model.settle()
        #expect(await attempts.arrivals == 2)
        #expect(engine.log == ["encode 20x10", "predict", "encode 20x10"])
    }

    @Test func aPickerThatFailsLeavesTheImage() async throws {
        let model = try await model(FakeEngine())
        let before = model.state
        model.report(CancellationError())
        #expect(model.state == before)
        model.report(Trouble("not an image"))
        #expect(model.state.failure == "not an image" && model.state.image == before.image)
    }
}

/// Numbers that are the same on every machine (xorshift64*).
private struct Stream: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        if state == 0 { state = 0x9E37_79B9_7F4A_7C15 }
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_F491_4F6C_DD1D
    }
}
