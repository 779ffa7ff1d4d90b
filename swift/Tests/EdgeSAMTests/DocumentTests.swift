import CoreVideo
import EdgeSAMCore
import FixtureSupport
import Foundation
import Testing

@testable import EdgeSAM

/// docs/integrating.md shows code that compiles and runs.
@Suite(.serialized) struct DocumentTests {
    @Test func documentShowsTheCompiledLines() throws {
        let tests = URL(filePath: #filePath).deletingLastPathComponent()
        let source = try String(contentsOf: tests.appending(path: "IntegrationSnippet.swift"), encoding: .utf8)
        let document = try String(
            contentsOf: Fixtures.root.appending(path: "docs/integrating.md"), encoding: .utf8)
        let lines = try #require(between("// [snippet]\n", "// [/snippet]", in: source))
        let shown = try #require(between("<!-- snippet -->\n```swift\n", "```", in: document))
        #expect(shown == lines)
    }

    @Test func catalogueShowsCompiledLines() throws {
        let tests = URL(filePath: #filePath).deletingLastPathComponent()
        let source = try String(contentsOf: tests.appending(path: "DocumentationSnippets.swift"), encoding: .utf8)
        let compiled = Set(source.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) })
        let catalogue = Fixtures.root.appending(path: "swift/Sources/EdgeSAM/EdgeSAM.docc")
        let pages = try FileManager.default.contentsOfDirectory(at: catalogue, includingPropertiesForKeys: nil)
        var shown = 0
        for page in pages {
            let blocks = try String(contentsOf: page, encoding: .utf8).components(separatedBy: "```swift\n").dropFirst()
            for line in blocks.flatMap({ $0.components(separatedBy: "```")[0].split(separator: "\n") }) {
                #expect(compiled.contains(String(line)), "\(page.lastPathComponent): \(line)")
                shown += 1
            }
        }
        #expect(shown >= 15)
    }

    private func between(_ start: String, _ end: String, in text: String) -> String? {
        guard let from = text.range(of: start),
            let until = text.range(of: end, range: from.upperBound..<text.endIndex)
        else { return nil }
        return String(text[from.upperBound..<until.lowerBound])
    }

    @Test func linesGiveAMask() async throws {
        let exports = try await Session.shared.exports()
        let picture = try await Session.shared.picture("small")
        let photo = try testBuffer(picture)
        // Compiled models, as an app's bundle has them; nothing is then written to Application Support.
        let cache = try CompiledModelCache(folder: exports.options().compiledModels)
        let mask = try await objectMask(
            in: photo, x: 48, y: 32, encoder: try await cache.compiled(exports.encoder()),
            decoder: try await cache.compiled(exports.decoder()))
        #expect(mask?.size == picture.size)
        #expect((mask?.area ?? 0) > 0)
    }
}
