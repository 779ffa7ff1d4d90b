import Foundation

/// A fingerprint of a package's files: 128 bits over sorted relative paths, sizes and contents.
///
/// It tells one's own models apart and is no protection against forgery, which a key of a private cache does not need;
/// in exchange it costs milliseconds for tens of megabytes at every start of the app.
struct ContentKey {
    /// 32 hexadecimal digits.
    var text: String { Self.hex(first) + Self.hex(second) }

    /// Whether a name may be the text of a key.
    static func isKey(_ name: String) -> Bool { name.utf8.count == 32 && name.allSatisfy(\.isHexDigit) }

    private var first: UInt64 = 0x9E37_79B9_7F4A_7C15
    private var second: UInt64 = 0xC2B2_AE3D_27D4_EB4F

    init(folder: URL) throws {
        let root = folder.resolvingSymlinksInPath().path
        let names = try FileManager.default.subpathsOfDirectory(atPath: root).sorted()
        for name in names {
            let path = root + "/" + name
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), !isFolder.boolValue else {
                continue
            }
            let content = try Data(contentsOf: URL(filePath: path), options: .mappedIfSafe)
            mix(Data(name.utf8))
            mix(content)
        }
    }

    /// Every step is reversible for a given state, so that a single changed word always changes the key.
    private mutating func mix(_ data: Data) {
        step(UInt64(data.count))
        data.withUnsafeBytes { bytes in
            var offset = 0
            while offset + 8 <= bytes.count {
                step(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
                offset += 8
            }
            var rest: UInt64 = 0
            while offset < bytes.count {
                rest = rest << 8 | UInt64(bytes[offset])
                offset += 1
            }
            step(rest)
        }
    }

    private mutating func step(_ word: UInt64) {
        // Odd multipliers from the golden ratio and from the square root of three.
        first = (first ^ word) &* 0x9E37_79B9_7F4A_7C15
        first = first << 29 | first >> 35
        second = (second &+ word) &* 0xBB67_AE85_84CA_A73B
        second = second << 37 | second >> 27
    }

    private static func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
