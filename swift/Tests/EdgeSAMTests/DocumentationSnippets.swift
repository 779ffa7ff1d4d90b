import CoreVideo
import EdgeSAM
import Foundation

// Every line of code in Sources/EdgeSAM/EdgeSAM.docc is one of these; `DocumentTests` compares them.

func overviewSnippet(photo: CVPixelBuffer, x: Double, y: Double, encoder: URL, decoder: URL) async throws {
    let predictor = try await EdgeSAMPredictor(encoder: encoder, decoder: decoder)
    let embedding = try await predictor.setImage(photo)
    let candidates = try await predictor.predict(.point(x, y), on: embedding)
    let mask = candidates.best?.mask
    _ = mask
}

func imagesSnippet(frame: CVPixelBuffer, predictor: EdgeSAMPredictor) async throws {
    let embedding = try await predictor.setImage(frame, orientation: .right, preparation: .fast)
    await predictor.unload()
    try await predictor.load()
    _ = embedding
}

func masksSnippet(image: RGBImage, embedding: ImageEmbedding, predictor: EdgeSAMPredictor) async throws {
    let prompts: [Prompt] = [.point(120, 80), .box(20, 20, 200, 160)]
    let answers = try await predictor.predict(prompts, on: embedding)
    guard let best = answers[0].best else { return }
    let preview = best.preview
    let mask = best.mask
    let tinted = try image.overlay(mask, color: RGBColor(red: 30, green: 120, blue: 255), opacity: 0.4)
    let object = try image.cutOut(mask)
    let alpha = mask.alpha
    let outlines = mask.outline(tolerance: 1)
    let annotation = mask.rle().compressed
    _ = (preview, tinted, object, alpha, outlines, annotation)
}
