import EdgeSAMCore
import FixtureSupport
import Foundation
import Testing

/// `tests/goldens/geometry.json`, computed in fractions by Python's tests.
struct GeometryGolden: Decodable, Sendable {
    struct Packed: Decodable, Sendable {
        let points: [[Double]]
        let labels: [Int]
        let box: [Double]?
        let slots: Int?
        let pointCoords: [[Double]]
        let pointLabels: [Float]
    }

    struct Refused: Decodable, Sendable {
        let why: String
        let points: [[Double]]
        let labels: [Int]
        let box: [Double]?
        let slots: Int?
    }

    struct Case: Decodable, Sendable, CustomTestStringConvertible {
        let name: String
        let sourceSize: [Int]
        let size: Int
        let promptSize: Int
        let scaledSize: [Int]
        let promptExtent: [Int]
        let pointsIn: [[Double]]
        let pointsOut: [[Double]]
        let packed: [Packed]
        let refused: [Refused]

        var testDescription: String { name }

        var geometry: ImageGeometry {
            ImageGeometry(
                source: PixelSize(width: sourceSize[1], height: sourceSize[0]),
                frame: ImageFrame(size: size, promptSize: promptSize))
        }
    }

    let cases: [Case]

    static func load() throws -> [Case] {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let data = try Data(contentsOf: Fixtures.goldens.appending(path: "geometry.json"))
        return try decoder.decode(GeometryGolden.self, from: data).cases
    }
}

/// A prompt of the golden file; nil when this language's types cannot even express it.
private func goldenPrompt(points: [[Double]], labels: [Int], box: [Double]?) -> Prompt? {
    guard points.count == labels.count else { return nil }
    var prompt = Prompt(box: box.map { PromptBox(x0: $0[0], y0: $0[1], x1: $0[2], y1: $0[3]) })
    for (point, label) in zip(points, labels) {
        guard let label = PromptLabel(rawValue: label) else { return nil }
        prompt.points.append(PromptPoint(x: point[0], y: point[1], label: label))
    }
    return prompt
}

struct GeometryTests {
    @Test func goldenFileHasCases() throws {
        #expect(try GeometryGolden.load().count >= 13)
    }

    @Test(arguments: try GeometryGolden.load())
    func sizesAreThoseOfTheGoldens(_ golden: GeometryGolden.Case) {
        let geometry = golden.geometry
        #expect([geometry.scaledSize.height, geometry.scaledSize.width] == golden.scaledSize)
        #expect([geometry.promptExtent.height, geometry.promptExtent.width] == golden.promptExtent)
    }

    @Test(arguments: try GeometryGolden.load())
    func pointsGoToThePromptFrameAndBack(_ golden: GeometryGolden.Case) {
        for (point, expected) in zip(golden.pointsIn, golden.pointsOut) {
            let moved = golden.geometry.toPromptFrame(x: point[0], y: point[1])
            #expect(abs(Double(moved.x) - expected[0]) <= 1e-5 * max(1, expected[0]))
            #expect(abs(Double(moved.y) - expected[1]) <= 1e-5 * max(1, expected[1]))
            let back = golden.geometry.toSource(x: moved.x, y: moved.y)
            #expect(abs(back.x - point[0]) <= 1e-6 * max(1, point[0]))
            #expect(abs(back.y - point[1]) <= 1e-6 * max(1, point[1]))
        }
    }

    @Test(arguments: try GeometryGolden.load())
    func promptsArePackedAsInTheGoldens(_ golden: GeometryGolden.Case) throws {
        for entry in golden.packed {
            let prompt = try #require(goldenPrompt(points: entry.points, labels: entry.labels, box: entry.box))
            let packed = try PromptPacker.pack(prompt, geometry: golden.geometry, slots: entry.slots)
            #expect(packed.labels == entry.pointLabels)
            let expected = entry.pointCoords.flatMap { $0 }
            try #require(packed.coords.count == expected.count)
            for (value, wanted) in zip(packed.coords, expected) {
                #expect(abs(Double(value) - wanted) <= 1e-5 * max(1, wanted))
            }
        }
    }

    @Test(arguments: try GeometryGolden.load())
    func promptsAreRefusedAsInTheGoldens(_ golden: GeometryGolden.Case) {
        var tried = 0
        for entry in golden.refused {
            guard let prompt = goldenPrompt(points: entry.points, labels: entry.labels, box: entry.box) else {
                continue
            }
            tried += 1
            #expect(throws: PromptError.self, "\(entry.why)") {
                try PromptPacker.pack(prompt, geometry: golden.geometry, slots: entry.slots)
            }
        }
        #expect(tried == golden.refused.count - 2, "an unknown and a missing label cannot be expressed")
    }

    @Test func stretchedPictureFillsTheFrame() {
        let frame = ImageFrame(size: 512, promptSize: 1024, fit: .stretch)
        let geometry = ImageGeometry(source: PixelSize(width: 400, height: 100), frame: frame)
        #expect(geometry.scaledSize == PixelSize(width: 512, height: 512))
        #expect(geometry.promptExtent == PixelSize(width: 1024, height: 1024))
        let moved = geometry.toPromptFrame(x: 100, y: 50)
        #expect(moved.x == 256 && moved.y == 512)
    }
}
