/// Reads the few kinds of Python literals that occur in an array file's header. Nothing nests, nothing is evaluated.
struct NPYLiteralParser {
    private let characters: [UInt8]
    private var at = 0

    init(_ text: String) { characters = Array(text.utf8) }

    private mutating func skipSpace() {
        while at < characters.count, [0x20, 0x09, 0x0A, 0x0D].contains(characters[at]) { at += 1 }
    }

    /// Whether `token` comes next; passes it if so.
    mutating func skip(_ token: String) -> Bool {
        skipSpace()
        guard characters[at...].starts(with: token.utf8) else { return false }
        at += token.utf8.count
        return true
    }

    mutating func expect(_ token: String) throws(NPYError) {
        guard skip(token) else { throw .header("'\(token)' expected at byte \(at)") }
    }

    mutating func expectEnd() throws(NPYError) {
        skipSpace()
        guard at == characters.count else { throw .header("something follows the dict at byte \(at)") }
    }

    mutating func string() throws(NPYError) -> String {
        skipSpace()
        guard at < characters.count, [UInt8(ascii: "'"), UInt8(ascii: "\"")].contains(characters[at]),
            let end = characters[(at + 1)...].firstIndex(of: characters[at])
        else { throw .header("a string expected at byte \(at)") }
        defer { at = end + 1 }
        // Names and type codes are short; anything longer is only ever shown in an error.
        return String(decoding: characters[(at + 1)..<end].prefix(40), as: UTF8.self)
    }

    mutating func boolean() throws(NPYError) -> Bool {
        if skip("True") { return true }
        try expect("False")
        return false
    }

    mutating func tuple(atMost limit: Int) throws(NPYError) -> [Int] {
        try expect("(")
        var values: [Int] = []
        while !skip(")") {
            guard values.count < limit else { throw .shape("more than \(limit) dimensions") }
            values.append(try integer())
            if !skip(",") {
                // (3) is a number in Python, not a tuple.
                guard values.count > 1 else { throw .header("shape is not a tuple") }
                try expect(")")
                break
            }
        }
        return values
    }

    private mutating func integer() throws(NPYError) -> Int {
        skipSpace()
        let digits = characters[at...].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard let value = Int(String(decoding: digits.prefix(20), as: UTF8.self)), digits.count <= 20 else {
            throw .shape("not a size at byte \(at)")
        }
        at += digits.count
        return value
    }
}
