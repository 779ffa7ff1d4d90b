import EdgeSAM
import EdgeSAMCore
import FixtureSupport
import Foundation

/// What `tests/swift_fixtures.py` wrote: packages, pictures, prompts, and Python's results.
struct Exports: Sendable {
    /// Packages of one export and the folder with Python's results for them.
    enum Pair: String, Sendable, CaseIterable {
        case recommended = ""
        case tensor
        case official
        /// Of another model, whose embedding has three maps.
        case maps
        /// The same with a decoder of three prompts at once, which scores objects.
        case queries
        /// Real families of that kind.
        case edgetam
        case sam2 = "sam2.1_hiera_tiny"

        var suffix: String { self == .recommended ? "" : "_\(rawValue)" }

        /// Name of the model, which its files begin with.
        var model: String {
            switch self {
            case .recommended, .tensor, .official: "edge_sam_3x"
            case .maps, .queries: "small_maps"
            case .edgetam, .sam2: rawValue
            }
        }
    }

    /// One prompt on one picture.
    struct Row: Decodable, Sendable, CustomStringConvertible {
        let picture: String
        let name: String
        let points: [[Double]]?
        let labels: [Int]?
        let box: [Double]?
        let maskOf: String?
        let best: Int
        let objectScore: Float?

        enum CodingKeys: String, CodingKey {
            case picture, name, points, labels, box, best
            case maskOf = "mask_of"
            case objectScore = "object_score"
        }

        var description: String { "\(picture)_\(name)" }
    }

    /// Python's result for one prompt.
    struct Expected {
        let scores: [Float]
        /// One 256 x 256 map after the other.
        let logits: [Float]
        /// 0 or 1 for each pixel of each mask.
        let masks: [[UInt8]]
    }

    private struct Index: Decodable {
        let slots: Int
        let prompts: [Row]
        let tensorPrompts: [Row]
        let officialPrompts: [Row]
        let mapsPrompts: [Row]
        let queriesPrompts: [Row]
        let familyPrompts: [String: [Row]]

        enum CodingKeys: String, CodingKey {
            case slots, prompts
            case tensorPrompts = "tensor_prompts"
            case officialPrompts = "official_prompts"
            case mapsPrompts = "maps_prompts"
            case queriesPrompts = "queries_prompts"
            case familyPrompts = "family_prompts"
        }
    }

    let folder: URL
    let slots: Int
    let rows: [Pair: [Row]]
    let pictures: [String: RGBImage]

    init() throws {
        folder = try Fixtures.exports()
        let json = try Data(contentsOf: folder.appending(path: "fixtures.json"))
        let index = try JSONDecoder().decode(Index.self, from: json)
        slots = index.slots
        var rows: [Pair: [Row]] = [
            .recommended: index.prompts, .tensor: index.tensorPrompts, .official: index.officialPrompts,
            .maps: index.mapsPrompts, .queries: index.queriesPrompts,
        ]
        for (model, prompts) in index.familyPrompts {
            if let pair = Pair(rawValue: model) { rows[pair] = prompts }
        }
        self.rows = rows
        var pictures: [String: RGBImage] = [:]
        for name in Set(index.prompts.map(\.picture)) {
            let array = try NPYArray(file: Data(contentsOf: folder.appending(path: "pictures/\(name).npy")))
            pictures[name] = try RGBImage(width: array.shape[1], height: array.shape[0], pixels: array.bytes)
        }
        self.pictures = pictures
    }

    func encoder(_ pair: Pair = .recommended) -> URL { package(pair, "encoder") }

    func decoder(_ pair: Pair = .recommended) -> URL { package(pair, "decoder") }

    func broken(_ name: String) -> URL { folder.appending(path: "broken/\(name).mlpackage") }

    private func package(_ pair: Pair, _ component: String) -> URL {
        let home = pair == .recommended ? folder : folder.appending(path: pair.rawValue)
        return home.appending(path: "\(pair.model)_\(component).mlpackage")
    }

    /// Options whose compute units stand for plain FP16 arithmetic, the numerics that Python's results were made with.
    ///
    /// Compiled models live and die with the fixtures.
    func options() -> EdgeSAMOptions {
        EdgeSAMOptions(
            encoderUnits: .cpuOnly, decoderUnits: .cpuOnly, compiledModels: folder.appending(path: "compiled"))
    }

    func expected(_ row: Row, _ pair: Pair = .recommended) throws -> Expected {
        func array(_ part: String) throws -> NPYArray {
            let path = "expected\(pair.suffix)/\(row)_\(part).npy"
            return try NPYArray(file: Data(contentsOf: folder.appending(path: path)))
        }
        let bits = try array("bits")
        let area = pictures[row.picture]?.size.area ?? 0
        let unpacked = (0...255).map { byte in (0..<8).map { UInt8(byte >> (7 - $0) & 1) } }
        let masks = (0..<bits.shape[0]).map { mask in
            let packed = bits.bytes[mask * bits.shape[1]..<(mask + 1) * bits.shape[1]]
            return Array(packed.flatMap { unpacked[Int($0)] }.prefix(area))
        }
        return Expected(scores: try array("scores").floats(), logits: try array("logits").floats(), masks: masks)
    }

    /// The prompt of a row; a mask prompt is Python's own best mask of the prediction that the row names.
    func prompt(_ row: Row, _ pair: Pair = .recommended) throws -> Prompt {
        var prompt = Prompt()
        for (point, label) in zip(row.points ?? [], row.labels ?? []) {
            prompt.points.append(
                PromptPoint(x: point[0], y: point[1], label: label == 1 ? .foreground : .background))
        }
        if let box = row.box { prompt.box = PromptBox(x0: box[0], y0: box[1], x1: box[2], y1: box[3]) }
        if let name = row.maskOf {
            let source = rows[pair]?.first { $0.picture == row.picture && $0.name == name }
            guard let source else { throw Fixtures.Failure(description: "no row \(row.picture)_\(name)") }
            let logits = try expected(source, pair).logits
            let area = Prompt.maskSide * Prompt.maskSide
            prompt.maskLogits = Array(logits[source.best * area..<(source.best + 1) * area])
        }
        return prompt
    }
}
