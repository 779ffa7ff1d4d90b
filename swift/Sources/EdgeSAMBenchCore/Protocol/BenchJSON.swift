import Foundation

/// How documents become JSON and back: snake_case, sorted keys, no bare NaN.
public enum BenchJSON {
    /// Indented, for documents that people read too.
    public static func document(_ value: some Encodable) throws -> Data {
        try encoder(.prettyPrinted).encode(value) + Data("\n".utf8)
    }

    /// One line with its newline.
    public static func line(_ value: some Encodable) throws -> Data {
        try encoder([]).encode(value) + Data("\n".utf8)
    }

    public static func decode<Value: Decodable>(_ type: Value.Type, from data: Data) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: data)
    }

    /// ISO 8601 in UTC, to the second.
    public static func timestamp(_ date: Date) -> String {
        date.formatted(.iso8601)
    }

    private static func encoder(_ formatting: JSONEncoder.OutputFormatting) -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = formatting.union([.sortedKeys, .withoutEscapingSlashes])
        return encoder
    }
}
