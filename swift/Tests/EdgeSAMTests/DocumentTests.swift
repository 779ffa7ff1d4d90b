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

    private func between(_ start: String, _ end: String, in text: String) -> String? {
        guard let from = text.range(of: start),
            let until = text.range(of: end, range: from.upperBound..<text.endIndex)
        else { return nil }
        return String(text[from.upperBound..<until.lowerBound])
    }

    @Test func linesGiveAMask() async throws {
        let exports = try await Session.shared.exports()
        let picture = try await Session.shared.picture("small")
        let photo = try PixelBuffers.bgra(rgb: picture.pixels, width: picture.width, height: picture.height)
        // Compiled models, as an app's bundle has them; nothing is then written to Application Support.
        let cache = try CompiledModelCache(folder: exports.options().compiledModels)
        let mask = try await objectMask(
            in: photo, x: 48, y: 32, encoder: try await cache.compiled(exports.encoder()),
            decoder: try await cache.compiled(exports.decoder()))
        #expect(mask?.size == picture.size)
        #expect((mask?.area ?? 0) > 0)
    }
}
