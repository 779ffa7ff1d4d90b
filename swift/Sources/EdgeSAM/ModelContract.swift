import EdgeSAMCore
import Foundation

/// A file's contract with the facts that only a decoder's user needs.
struct ModelContract: Sendable {
    /// Profiles whose tensors the predictor knows.
    static let profiles = ["default", "official"]
    /// Core ML's name of the function of a program that has only one.
    static let defaultFunction = "main"

    let contract: Contract
    /// Function name -> prompt slots, for a decoder with several functions.
    let functions: [String: Int]
    /// Most prompt slots of a decoder whose number is free.
    let mostPoints: Int?

    private struct Extras: Decodable {
        let functions: [String: Int]?
        let pointsRange: [Int]?

        enum CodingKeys: String, CodingKey {
            case functions
            case pointsRange = "points_range"
        }
    }

    /// - Parameters:
    ///   - text: JSON of the metadata, nil when there is none.
    ///   - file: name for messages.
    init(text: String?, file: String, expected: Contract.Component) throws(EdgeSAMError) {
        guard let text else { throw .noContract(file: file) }
        do {
            contract = try Contract(json: text)
        } catch {
            throw .badContract(file: file, error)
        }
        guard contract.component == expected else {
            throw .wrongComponent(file: file, expected: expected, found: contract.component)
        }
        if let part = contract.part { throw .onlyPart(file: file, component: contract.component, part) }
        guard Self.profiles.contains(contract.profile) else {
            throw .unsupportedProfile(file: file, profile: contract.profile, supported: Self.profiles)
        }
        let extras: Extras
        do {
            extras = try JSONDecoder().decode(Extras.self, from: Data(text.utf8))
        } catch {
            throw .contractBroken(file: file, detail: "fields 'functions' and 'points_range' are no numbers")
        }
        functions = extras.functions ?? [:]
        mostPoints = extras.pointsRange?.last
    }

    /// Functions that a model's contract lists, the default one alone when it lists none.
    static func functionNames(_ text: String?) -> [String] {
        let extras = text.flatMap { try? JSONDecoder().decode(Extras.self, from: Data($0.utf8)) }
        return extras?.functions?.keys.sorted() ?? [defaultFunction]
    }

    /// Prompt slots of one function of a decoder, nil when their number is free.
    func slots(function: String?) throws(EdgeSAMError) -> Int? {
        guard let function, function != Self.defaultFunction else { return contract.slots }
        guard let slots = functions[function] else {
            throw .unknownFunction(name: function, known: functions.keys.sorted())
        }
        return slots
    }

    /// Check that an encoder and a decoder belong together.
    static func check(encoder: Contract, decoder: Contract) throws(EdgeSAMError) {
        guard encoder.model == decoder.model else {
            throw .differentModels(encoder: encoder.model, decoder: decoder.model)
        }
        guard encoder.frame == decoder.frame else {
            throw .differentFrames(encoder: shown(encoder.frame), decoder: shown(decoder.frame))
        }
    }

    private static func shown(_ frame: ImageFrame) -> String {
        "\(frame.size) (prompts \(frame.promptSize), mean \(frame.mean), std \(frame.std), \(frame.fit.rawValue))"
    }
}
