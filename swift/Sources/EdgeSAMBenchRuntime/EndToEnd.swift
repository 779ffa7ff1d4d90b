import EdgeSAM
import EdgeSAMBenchCore
import EdgeSAMCore
import Foundation

/// What a user of the library waits for: a new picture, one point, one mask at the picture's size.
struct EndToEnd: Sendable {
    /// A picture of a usual shape; what it shows does not change the time.
    private static let (width, height) = (1024, 768)

    private let predictor: EdgeSAMPredictor
    private let picture: RGBImage
    private let clock: any MonotonicClock

    init(encoder: URL, decoder: URL, plan: InputPlan, clock: any MonotonicClock) async throws {
        predictor = try await EdgeSAMPredictor(
            encoder: encoder, decoder: decoder, options: plan.hints.options(units: plan.units))
        var random = RandomValues(name: "picture")
        picture = try RGBImage(
            width: Self.width, height: Self.height, pixels: random.bytes(Self.width * Self.height * 3))
        self.clock = clock
    }

    func predict() async throws -> Prediction {
        let start = clock.nowNs
        let embedding = try await predictor.setImage(picture)
        let masks = try await predictor.predict(.point(512, 384), on: embedding)
        let mask = masks.best?.mask
        let duration = clock.nowNs - start
        guard mask != nil, masks.allSatisfy(\.score.isFinite) else {
            throw BenchFailure(stage: "end_to_end", code: "not_finite", message: "no mask, or a score is not a number")
        }
        return Prediction(durationNs: duration)
    }
}
