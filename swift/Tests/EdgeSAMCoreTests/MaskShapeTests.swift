import EdgeSAMDigest
import FixtureSupport
import Foundation
import Testing

@testable import EdgeSAMCore

/// `tests/goldens/mask_shapes.json`: what contourpy, pycocotools and Pillow give; `tests/test_mask_shapes.py` makes it.
struct ShapeGoldens: Decodable, Sendable {
    struct MaskCase: Decodable, Sendable, CustomTestStringConvertible {
        let name: String
        let drawn: [String]?
        let seed: UInt32?
        let passes: Int?
        let size: [Int]
        let maskSha256: String
        let outlines: [String: [[[[Double]]]]]
        let compressed: String
        let overlaySha256: String
        let cutOutSha256: String

        var testDescription: String { name }
        var pixels: PixelSize { PixelSize(width: size[1], height: size[0]) }

        func mask() throws -> BinaryMask {
            try BinaryMask(size: pixels, bits: drawn.map { $0.joined().map { $0 == "1" ? 1 : 0 } } ?? blob())
        }

        func image() throws -> RGBImage {
            try RGBImage(width: size[1], height: size[0], pixels: lcgBytes(7, count: size[0] * size[1] * 3))
        }

        /// Noise under a box filter, above its median.
        private func blob() -> [UInt8] {
            let (height, width) = (size[0], size[1])
            var values = lcgBytes(seed ?? 0, count: height * width).map { Int($0) }
            for _ in 0..<(passes ?? 0) {
                let before = values
                for y in 0..<height {
                    for x in 0..<width {
                        var sum = 0
                        for row in max(0, y - 1)...min(height - 1, y + 1) {
                            for column in max(0, x - 1)...min(width - 1, x + 1) { sum += before[row * width + column] }
                        }
                        values[y * width + x] = sum / 9
                    }
                }
            }
            let median = values.sorted()[values.count / 2]
            return values.map { $0 > median ? 1 : 0 }
        }
    }

    struct OrientationCase: Decodable, Sendable {
        let orientation: Int
        let size: [Int]
        let sha256: String
    }

    let colour: [UInt8]
    let opacity: Double
    let masks: [MaskCase]
    let orientations: [OrientationCase]

    static func load() throws -> ShapeGoldens {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(
            ShapeGoldens.self, from: Data(contentsOf: Fixtures.goldens.appending(path: "mask_shapes.json")))
    }
}

struct MaskShapeTests {
    @Test(arguments: try ShapeGoldens.load().masks)
    func outlinesAreThoseOfContourpy(_ golden: ShapeGoldens.MaskCase) throws {
        let mask = try golden.mask()
        #expect(SHA256.hexDigest(of: mask.bits) == golden.maskSha256)
        for (tolerance, areas) in golden.outlines {
            let found = mask.outline(tolerance: try #require(Double(tolerance))).map { [$0.exterior] + $0.holes }
            #expect(found.map { $0.map { $0.map { [$0.x, $0.y] } } } == areas, "tolerance \(tolerance)")
        }
    }

    @Test(arguments: try ShapeGoldens.load().masks)
    func runLengthsAreThoseOfPycocotools(_ golden: ShapeGoldens.MaskCase) throws {
        let mask = try golden.mask()
        #expect(mask.rle().compressed == golden.compressed)
        #expect(try RunLengths(size: mask.size, compressed: golden.compressed) == mask.rle())
    }

    @Test(arguments: try ShapeGoldens.load().masks)
    func coloursAreThoseOfTheFormula(_ golden: ShapeGoldens.MaskCase) throws {
        let all = try ShapeGoldens.load()
        let (image, mask) = (try golden.image(), try golden.mask())
        let colour = RGBColor(red: all.colour[0], green: all.colour[1], blue: all.colour[2])
        let tinted = try image.overlay(mask, color: colour, opacity: all.opacity)
        #expect(SHA256.hexDigest(of: tinted.pixels) == golden.overlaySha256)
        #expect(SHA256.hexDigest(of: try image.cutOut(mask).pixels) == golden.cutOutSha256)
    }

    @Test func opacityOutsideItsRangeIsTheNearerEnd() throws {
        let image = try RGBImage(width: 1, height: 1, pixels: [10, 20, 30])
        let mask = try BinaryMask(size: image.size, bits: [1])
        let colour = RGBColor(red: 255, green: 0, blue: 128)
        for opacity in [0, -1, .nan] {
            #expect(try image.overlay(mask, color: colour, opacity: opacity) == image)
        }
        for opacity in [1, 7, .infinity] {
            #expect(try image.overlay(mask, color: colour, opacity: opacity).pixels == [255, 0, 128])
        }
    }

    @Test func maskOfAnotherSizeIsRefused() throws {
        let image = try RGBImage(width: 2, height: 1, pixels: [0, 0, 0, 0, 0, 0])
        let mask = try BinaryMask(size: PixelSize(width: 1, height: 2), bits: [1, 1])
        let expected = ImageError.maskSize(mask: mask.size, image: image.size)
        #expect(throws: expected) { try image.overlay(mask, color: RGBColor(red: 0, green: 0, blue: 0)) }
        #expect(throws: expected) { try image.cutOut(mask) }
        #expect(expected.localizedDescription.contains("1x2") && expected.localizedDescription.contains("2x1"))
    }

    @Test func ringThatBecomesTooThinDisappears() throws {
        let mask = try BinaryMask(size: PixelSize(width: 1, height: 1), bits: [1])
        #expect(
            mask.outline() == [
                MaskOutline(exterior: [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)].map { OutlinePoint(x: $0.0, y: $0.1) })
            ])
        #expect(mask.outline(tolerance: 1) == [])
    }

    @Test(arguments: ["P", "0p", "0 ", "\u{e9}", "o", "PPPPPPPPPPPPPPPPPP1", "0O"])
    func damagedStringOfRunLengthsIsRefused(_ text: String) {
        #expect(throws: MaskError.self) {
            try RunLengths(size: PixelSize(width: 2, height: 2), compressed: text)
        }
    }

    @Test func orientationsAreThoseOfPillow() throws {
        let image = try RGBImage(width: 5, height: 3, pixels: lcgBytes(11, count: 45))
        let goldens = try ShapeGoldens.load().orientations
        #expect(goldens.map(\.orientation) == ImageOrientation.allCases.map(\.rawValue))
        for golden in goldens {
            let orientation = try #require(ImageOrientation(rawValue: golden.orientation))
            let upright = image.oriented(orientation)
            #expect([upright.height, upright.width] == golden.size)
            #expect(SHA256.hexDigest(of: upright.pixels) == golden.sha256, "\(orientation)")
        }
    }

    @Test func previewHasTheProportionsOfTheImage() {
        let logits = (0..<256 * 256).map { Float($0 / 256 < 20 && $0 % 256 < 30 ? 1 : -1) }
        for (width, height, expected) in [(640, 480, [256, 192]), (300, 3000, [26, 256]), (1, 1, [256, 256])] {
            let geometry = ImageGeometry(source: PixelSize(width: width, height: height), frame: ImageFrame())
            let preview = MaskProcessor(geometry: geometry).preview(logits)
            #expect([preview.size.width, preview.size.height] == expected)
            #expect(preview.area == 20 * min(30, preview.size.width))
        }
    }
}
