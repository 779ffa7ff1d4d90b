import EdgeSAM
import EdgeSAMUI
import Foundation

/// The two models that Xcode compiled into the app; `make demo-app` puts their packages into `Models`.
enum BundledModels {
    static func engine() async throws -> any SegmentationEngine {
        let predictor = try await EdgeSAMPredictor(encoder: model("Encoder"), decoder: model("Decoder"))
        try await predictor.warmUp()
        return PredictorEngine(predictor)
    }

    private static func model(_ name: String) throws -> URL {
        guard let url = Bundle.main.url(forResource: name, withExtension: "mlmodelc") else {
            throw EdgeSAMError.missingFile(path: "\(name).mlmodelc")
        }
        return url
    }
}
