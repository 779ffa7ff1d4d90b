import EdgeSAMDigest
import FixtureSupport
import Foundation
import Testing

@testable import EdgeSAMBenchCore

/// Test vectors of FIPS 180-4 (NIST's example values and long message).
@Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
])
func sha256OfStandardVectors(message: String, digest: String) {
    #expect(SHA256.hexDigest(of: Data(message.utf8)) == digest)
}

@Test func sha256OfAMillionLettersInUnevenPieces() {
    let piece = Data(repeating: UInt8(ascii: "a"), count: 997)
    var digest = SHA256()
    for _ in 0..<1003 { digest.update(piece) }
    digest.update(Data(repeating: UInt8(ascii: "a"), count: 1_000_000 - 997 * 1003))
    #expect(digest.finish() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
}

@Test(arguments: [55, 56, 57, 63, 64, 65]) func sha256AgreesHoweverItIsCut(length: Int) {
    let data = Data((0..<length).map { UInt8($0) })
    var digest = SHA256()
    for byte in data { digest.update([byte]) }
    #expect(digest.finish() == SHA256.hexDigest(of: data))
}

/// Expected by hand from the definition: names with their sizes and bytes, in the order of path parts.
@Test func treeDigestGoesOverPathsSizesAndBytesInOrderOfParts() throws {
    let root = FileManager.default.temporaryDirectory.appending(path: "tree-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: root) }
    for (path, text) in [("a.txt", "12"), ("a/é.bin", "3"), ("a/z", ""), ("B", "45")] {
        let file = root.appending(path: path)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }
    // Parts compare as "B" < "a" < "a.txt"; "a/..." therefore stands before "a.txt", unlike plain text order.
    let stream = "B\u{0}2\u{0}45" + "a/z\u{0}0\u{0}" + "a/é.bin\u{0}1\u{0}3" + "a.txt\u{0}2\u{0}12"
    let found = try TreeDigest.of(root, in: DiskFileStore())
    #expect(found.sha256 == SHA256.hexDigest(of: Data(stream.utf8)))
    #expect(found.bytes == 5)
}

@Test func treeDigestRefusesLinks() throws {
    let root = FileManager.default.temporaryDirectory.appending(path: "links-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: root) }
    try FileManager.default.createDirectory(at: root, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
        at: root.appending(path: "link"), withDestinationURL: URL(filePath: "/etc/hostname"))
    #expect(throws: BenchFailure.self) { try TreeDigest.of(root, in: DiskFileStore()) }
}

/// The Python twin, on the same folder.
@Test func treeDigestAgreesWithPython() throws {
    let folder = Fixtures.goldens.appending(path: "bench")
    let (process, output) = (Process(), Pipe())
    process.executableURL = Fixtures.python
    process.arguments = [
        "-c",
        "import sys; from pathlib import Path; from edgesam_export.files import sha256_of; "
            + "print(sha256_of(Path(sys.argv[1])))", folder.path,
    ]
    process.currentDirectoryURL = Fixtures.root
    process.standardOutput = output
    try process.run()
    let printed = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    let expected = String(decoding: printed, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    #expect(expected.count == 64)
    #expect(try TreeDigest.of(folder, in: DiskFileStore()).sha256 == expected)
}
