/// The forms of a run's identifiers; they become folder names, so nothing else is let through.
public enum RunIdentifier {
    /// Nonce of a status about a request whose own nonce could not be read.
    public static let unknownNonce = String(repeating: "0", count: 32)

    /// A lower-case UUID.
    public static func isValid(_ text: String) -> Bool {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        return parts.map(\.utf8.count) == [8, 4, 4, 4, 12] && parts.allSatisfy { $0.utf8.allSatisfy(isHexDigit) }
    }

    /// 32 lower-case hexadecimal digits.
    public static func isNonce(_ text: String) -> Bool { text.utf8.count == 32 && text.utf8.allSatisfy(isHexDigit) }

    /// 64 lower-case hexadecimal digits.
    static func isSHA256(_ text: String) -> Bool { text.utf8.count == 64 && text.utf8.allSatisfy(isHexDigit) }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }
}
