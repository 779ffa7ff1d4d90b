import CoreVideo
import EdgeSAM
import Foundation

// The lines between the marks are those of docs/integrating.md; `DocumentTests` compares them.
// [snippet]
/// Mask of the object at a pixel of an image.
func objectMask(in photo: CVPixelBuffer, x: Double, y: Double, encoder: URL, decoder: URL) async throws -> BinaryMask? {
    let predictor = try await EdgeSAMPredictor(encoder: encoder, decoder: decoder)  // once, then keep it
    try await predictor.warmUp()

    let embedding = try await predictor.setImage(photo)  // once for each image
    let candidates = try await predictor.predict(.point(x, y), on: embedding)  // as often as the user taps

    guard let best = candidates.best else { return nil }
    print("score \(best.score), stability \(best.stabilityScore)")
    return best.mask  // as large as the image, 0 or 1 for each pixel
}
// [/snippet]
