import EdgeSAM
import EdgeSAMCore
import FixtureSupport

/// Predictors and embeddings that the tests share, each made once.
actor Session {
    static let shared = Session()

    private var made: Exports?
    private var predictors: [Exports.Pair: EdgeSAMPredictor] = [:]
    private var embeddings: [String: ImageEmbedding] = [:]

    func exports() throws -> Exports {
        if let made { return made }
        let exports = try Exports()
        made = exports
        return exports
    }

    func predictor(_ pair: Exports.Pair = .recommended) async throws -> EdgeSAMPredictor {
        if let predictor = predictors[pair] { return predictor }
        let exports = try exports()
        let predictor = try await EdgeSAMPredictor(
            encoder: exports.encoder(pair), decoder: exports.decoder(pair), options: exports.options())
        predictors[pair] = predictor
        return predictor
    }

    func picture(_ name: String) throws -> RGBImage {
        guard let picture = try exports().pictures[name] else {
            throw Fixtures.Failure(description: "no picture '\(name)'")
        }
        return picture
    }

    func embedding(_ name: String, _ pair: Exports.Pair = .recommended) async throws -> ImageEmbedding {
        let key = "\(name)/\(pair.rawValue)"
        if let embedding = embeddings[key] { return embedding }
        let embedding = try await predictor(pair).setImage(try picture(name))
        embeddings[key] = embedding
        return embedding
    }
}
