// What goes to and comes from `edgesam_export.mil.coreml_service`; the protocol is described there.

/// An array or an image whose bytes are a part of the payload.
struct ServiceFeature: Codable, Sendable {
    var name: String
    var kind: String
    var dtype: String?
    var shape: [Int]?
    var format: String?
    var width: Int?
    var height: Int?
    var offset: Int
    var bytes: Int
}

/// A request; the fields that its method does not use stay nil.
struct ServiceRequest: Encodable, Sendable {
    var method: String
    var path: String?
    var function: String?
    var numerics: String?
    var handle: Int?
    var features: [ServiceFeature]?
    var id = 0
    var payloadBytes = 0

    enum CodingKeys: String, CodingKey {
        case method, path, function, numerics, handle, features, id
        case payloadBytes = "payload_bytes"
    }
}

/// What every answer says.
struct ServiceEnvelope: Decodable {
    struct Problem: Decodable {
        let type: String
        let message: String
    }

    let ok: Bool
    let id: Int
    let error: Problem?
    let payloadBytes: Int

    enum CodingKeys: String, CodingKey {
        case ok, id, error
        case payloadBytes = "payload_bytes"
    }
}

struct EmptyAnswer: Decodable, Sendable {}

struct LoadAnswer: Decodable, Sendable {
    struct Feature: Decodable, Sendable {
        let name: String
        let kind: String
        let dtype: String
        let shape: [Int]
        let format: String?
        let optional: Bool
    }

    let handle: Int
    let inputs: [Feature]
    let outputs: [Feature]
    let metadata: [String: String]
}

struct PredictAnswer: Decodable, Sendable {
    let features: [ServiceFeature]
}

struct StructureAnswer: Decodable, Sendable {
    struct Function: Decodable, Sendable {
        let inputs: [String]
        let block: Block
    }

    struct Block: Decodable, Sendable {
        let inputs: [String]
        let outputs: [String]
        let operations: [Operation]
    }

    struct Operation: Decodable, Sendable {
        let type: String
        let outputs: [String]
        let blocks: [Block]
    }

    let functions: [String: Function]
}
