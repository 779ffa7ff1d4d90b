import EdgeSAM
import EdgeSAMUI
import FixtureSupport
import Foundation
import Testing

@MainActor
@Test func theModelShowsThePredictorsMasks() async throws {
    let folder = try Fixtures.exports()
    let options = EdgeSAMOptions(
        encoderUnits: .cpuOnly, decoderUnits: .cpuOnly, compiledModels: folder.appending(path: "compiled"))
    let predictor = try await EdgeSAMPredictor(
        encoder: folder.appending(path: "maps/small_maps_encoder.mlpackage"),
        decoder: folder.appending(path: "maps/small_maps_decoder.mlpackage"), options: options)
    let image = try RGBImage(width: 90, height: 60, pixels: (0..<90 * 60 * 3).map { UInt8(truncatingIfNeeded: $0 * 7) })
    let model = SegmentationModel { PredictorEngine(predictor) }
    let fit = ImageFit(image: image.size, view: CGSize(width: 90, height: 60))
    model.show(image)
    model.handle(.tap(CGPoint(x: 30, y: 20)), in: fit)
    await model.settle()
    let candidates = try await predictor.predict(.point(30, 20), on: predictor.setImage(image))
    #expect(model.state.choices.map(\.mask) == candidates.map(\.mask))
    #expect(model.state.choices.map(\.score) == candidates.map(\.score))
    #expect(model.state.mask == candidates.best?.mask)
    await predictor.unload()
    model.handle(.tap(CGPoint(x: 1, y: 1)), in: fit)
    await model.settle()
    #expect(model.state.failure == EdgeSAMError.unloaded.errorDescription)
    #expect(model.state.mask == candidates.best?.mask)
    try await predictor.load()
    // A point more than the decoder has slots for is taken back, and the reason says what to do.
    let most = try #require(predictor.slots) - 1
    for x in 1..<most { model.handle(.tap(CGPoint(x: CGFloat(x), y: 5)), in: fit) }
    await model.settle()
    #expect(model.state.selection.points.count == most && model.state.failure == nil)
    model.handle(.longPress(CGPoint(x: 80, y: 5)), in: fit)
    await model.settle()
    #expect(model.state.selection.points.count == most)
    #expect(model.state.failure?.contains("--points") == true)
}
