import EdgeSAMCore
import FixtureSupport
import Foundation
import Testing

struct ContractTests {
    private func text(_ component: String) throws -> String {
        let file = Fixtures.goldens.appending(path: "geometry/contract_\(component).json")
        return try String(contentsOf: file, encoding: .utf8)
    }

    private func changed(_ old: String, _ new: String) throws -> String {
        let text = try text("decoder")
        try #require(text.contains(old))
        return text.replacingOccurrences(of: old, with: new)
    }

    @Test func decoderOfThePythonPackageIsRead() throws {
        let contract = try Contract(json: text("decoder"))
        #expect(contract.model == "edge_sam" && contract.component == .decoder && contract.profile == "default")
        #expect(contract.frame == ImageFrame())
        #expect(contract.slots == 8 && contract.maskInput && contract.score == "stability")
        #expect(contract.candidates == [1, 2, 3])
        #expect(contract.inputs.map(\.name) == ["image_embeddings", "point_coords"])
        #expect(contract.inputs[1].shape == [.fixed(1), .free("points"), .fixed(2)])
        #expect(contract.weights.randomSeed == 7 && contract.weights.sha256 == nil)
    }

    @Test func encoderOfThePythonPackageIsRead() throws {
        let contract = try Contract(json: text("encoder"))
        #expect(contract.component == .encoder && contract.imageInput && contract.slots == nil)
        #expect(contract.inputs.first?.dtype == "image")
        #expect(contract.candidates.isEmpty && contract.score == nil && !contract.maskInput)
        #expect(contract.part == nil)
    }

    @Test func promptsAtOnceAndObjectScoreAreReadAndMayBeAbsent() throws {
        let plain = try Contract(json: text("decoder"))
        #expect(plain.queries == 1 && !plain.scoresObjects)
        let several = try Contract(
            json: changed("\"component\":", "\"queries\": 8, \"object_score\": true, \"component\":"))
        #expect(several.queries == 8 && several.scoresObjects)
    }

    @Test(arguments: ["0", "65", "-1", "4000000000", "\"8\""])
    func promptsAtOnceThatNoDecoderTakesAreNamed(_ queries: String) throws {
        let bad = try changed("\"component\":", "\"queries\": \(queries), \"component\":")
        let error = #expect(throws: ContractError.self) { try Contract(json: bad) }
        guard case .invalid("queries", _, _)? = error else {
            Issue.record("\(String(describing: error)) is another error")
            return
        }
    }

    @Test func partOfASplitEncoderSaysWhichItIs() throws {
        let half = try changed("\"component\":", "\"part\": [2, 2], \"component\":")
        #expect(try Contract(json: half).part == Contract.Part(number: 2, of: 2))
    }

    @Test(arguments: ["[]", "[1]", "[0, 2]", "[3, 2]", "[1, 2, 2]", "[-1, -1]", "\"1\"", "[1, 9000000000000000000]"])
    func partThatIsNoneIsNamed(_ part: String) throws {
        let bad = try changed("\"component\":", "\"part\": \(part), \"component\":")
        let error = #expect(throws: ContractError.self) { try Contract(json: bad) }
        guard case .invalid("part", _, _)? = error else {
            Issue.record("\(String(describing: error)) is another error")
            return
        }
    }

    @Test func promptThatTheWeightsWereNotTrainedOnIsNamed() throws {
        let plain = try Contract(json: text("decoder"))
        let boxes = try Contract(
            json: changed("\"component\":", "\"trained_prompts\": [\"box\", \"box+point\"], \"component\":"))
        let point = PromptPoint(x: 1, y: 2)
        let corners = PromptBox(x0: 0, y0: 0, x1: 9, y1: 9)
        let kinds: [(Prompt, String)] = [
            (.point(1, 2), "point"), (Prompt(points: [point, point]), "points"), (.box(0, 0, 9, 9), "box"),
            (Prompt(points: [point], box: corners), "box+point"), (Prompt(points: [point], maskLogits: [0]), "mask"),
        ]
        for (prompt, kind) in kinds {
            #expect(prompt.kind == kind && plain.warning(for: prompt) == nil)
            #expect((boxes.warning(for: prompt) == nil) == kind.hasPrefix("box"))
        }
        #expect(
            boxes.warning(for: .point(1, 2)) == "the weights of edge_sam were trained on prompts of kind box, box+point, "
                + "not point; masks may be wrong")
        #expect(plain.trainedPrompts == nil && boxes.trainedPrompts == ["box", "box+point"])
    }

    @Test func decoderOfOtherWeightsIsNamed() throws {
        let encoder = try Contract(json: text("encoder"))
        #expect(encoder.warning(beside: try Contract(json: text("decoder"))) == nil)
        let random = try Contract(json: changed("\"random_seed\": 7", "\"random_seed\": 3"))
        let warning = try #require(encoder.warning(beside: random))
        #expect(warning.contains("the decoder from random weights (seed 3)"))
    }

    @Test func proposalsAreReadWithoutCandidates() throws {
        let text = try text("encoder").replacingOccurrences(of: "\"encoder\"", with: "\"proposals\"")
        #expect(try Contract(json: text).component == .proposals)
    }

    @Test func newerVersionIsToldAsSuch() throws {
        let newer = "{\"schema_version\": 2}"
        #expect(throws: ContractError.schemaVersion(2)) { try Contract(json: newer) }
    }

    @Test func missingFieldsAreNamed() throws {
        let without = try changed("\"prompt_size\"", "\"other\"")
        #expect(throws: ContractError.missing("frame.prompt_size")) { try Contract(json: without) }
    }

    @Test(arguments: [
        ["\"size\": 1024", "\"size\": 0", "frame.size"], ["\"size\": 1024", "\"size\": \"x\"", "frame.size"],
        ["58.395", "0", "frame.std"], ["  103.53", "  103.53, 1", "frame.mean"],
        ["  124,", "  256,", "frame.pad_colour"],
        ["\"slots\": 8", "\"slots\": 0", "slots"], ["\"component\": \"decoder\"", "\"component\": \"x\"", "component"],
    ])
    func badFieldsAreNamed(_ change: [String]) throws {
        let bad = try changed(change[0], change[1])
        let error = #expect(throws: ContractError.self) { try Contract(json: bad) }
        guard case .invalid(let field, _, _)? = error else {
            Issue.record("\(String(describing: error)) is another error")
            return
        }
        #expect(field == change[2])
    }

    @Test(arguments: ["", "[]", "{", "null", String(repeating: "[", count: 100_000)])
    func otherTextIsNotAContract(_ text: String) {
        #expect(throws: ContractError.self) { try Contract(json: text) }
    }
}
