import Foundation

/// Reads `request.json`, which is untrusted: bounded, typed errors with the location in the document.
public enum RequestReader {
    /// Largest request that is read, bytes.
    public static let sizeLimit = 4 << 20

    /// Run and nonce of a request, as far as they can be read from one that is refused.
    public struct Identity: Sendable, Equatable {
        public var runId: String?
        public var nonce: String?
    }

    /// The request, with every value checked.
    public static func request(from data: Data) throws -> BenchRequest {
        try checkVersion(data)
        let request = try decoded(BenchRequest.self, data)
        try RequestChecks.check(request)
        return request
    }

    /// Run and nonce, as far as they are there and well formed.
    public static func identity(from data: Data) -> Identity {
        struct Lenient: Decodable {
            var runId: String?
            var nonce: String?

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: CodingKeys.self)
                runId = try? container.decode(String.self, forKey: .runId)
                nonce = try? container.decode(String.self, forKey: .nonce)
            }

            enum CodingKeys: String, CodingKey { case runId, nonce }
        }
        let found = try? BenchJSON.decode(Lenient.self, from: data)
        return Identity(
            runId: found?.runId.flatMap { RunIdentifier.isValid($0) ? $0 : nil },
            nonce: found?.nonce.flatMap { RunIdentifier.isNonce($0) ? $0 : nil })
    }

    /// Refuses another version before anything else, since its other fields may have changed.
    private static func checkVersion(_ data: Data) throws {
        struct Version: Decodable { var protocolVersion: Int }
        let version = try decoded(Version.self, data).protocolVersion
        guard version == benchProtocolVersion else { throw RequestFault.version(version) }
    }

    private static func decoded<Value: Decodable>(_ type: Value.Type, _ data: Data) throws -> Value {
        do {
            return try BenchJSON.decode(type, from: data)
        } catch let error as DecodingError {
            throw failure(for: error)
        }
    }

    private static func failure(for error: DecodingError) -> BenchFailure {
        switch error {
        case .keyNotFound(let key, let context): RequestFault.missing(location(context.codingPath + [key]))
        case .typeMismatch(let type, let context):
            RequestFault.type(location(context.codingPath), "expected \(plainName(type)), found another type")
        case .valueNotFound(let type, let context):
            RequestFault.type(location(context.codingPath), "expected \(plainName(type)), found null")
        case .dataCorrupted(let context) where context.codingPath.isEmpty:
            RequestFault.notJSON(firstLine(context.debugDescription))
        case .dataCorrupted(let context):
            RequestFault.value(location(context.codingPath), firstLine(context.debugDescription))
        @unknown default: RequestFault.notJSON(firstLine("\(error)"))
        }
    }

    /// `models[0].relative_path`: the names that stand in the document.
    private static func location(_ path: [any CodingKey]) -> String {
        let place = path.reduce(into: "") { text, key in
            if let index = key.intValue {
                text += "[\(index)]"
            } else {
                text += (text.isEmpty ? "" : ".") + snakeCase(key.stringValue)
            }
        }
        return place.isEmpty ? "the document" : place
    }

    private static func snakeCase(_ name: String) -> String {
        name.reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : String($1) }
    }

    private static func plainName(_ type: Any.Type) -> String {
        switch "\(type)" {
        case "String": "a string"
        case "Int": "an integer"
        case "Double": "a number"
        case "Bool": "true or false"
        case let name where name.hasPrefix("Array"): "an array"
        case let name where name.hasPrefix("Dictionary"): "an object"
        case let name: name
        }
    }

    private static func firstLine(_ text: String) -> String {
        String(text.prefix { !$0.isNewline }.prefix(300))
    }
}
