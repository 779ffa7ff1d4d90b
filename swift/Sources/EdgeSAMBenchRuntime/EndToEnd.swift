import EdgeSAM
import EdgeSAMBenchCore
import EdgeSAMCore
import Foundation

/// A user's wait in the library: a new image, one point, one mask at the image's size.
struct EndToEnd: Sendable {
    /// An image of a usual shape; its content does not change the time.
    private static let (width, height) = (1024, 768)

    private let predictor: EdgeSAMPredictor
    private let image: RGBImage
    private let clock: any MonotonicClock

    init(encoder: URL, decoder: URL, plan: InputPlan, clock: any MonotonicClock) async throws {
        predictor = try await EdgeSAMPredictor(
            encoder: encoder, decoder: decoder, options: plan.hints.options(units: plan.units))
        var random = RandomValues(name: "picture")
        image = try RGBImage(
            width: Self.width, height: Self.height, pixels: random.bytes(Self.width * Self.height * 3))
        self.clock = clock
    }

    func predict() async throws -> Prediction {
        let start = clock.nowNs
        let embedding = try await predictor.setImage(image)
        let masks = try await predictor.predict(.point(512, 384), on: embedding)
        let mask = masks.best?.mask
        let duration = clock.nowNs - start
        guard mask != nil, masks.allSatisfy(\.score.isFinite) else {
            throw BenchFailure(stage: "end_to_end", code: "not_finite", message: "no mask, or a score is not a number")
        }
        return Prediction(durationNs: duration)
    }
}
