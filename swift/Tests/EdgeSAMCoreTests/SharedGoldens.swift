import EdgeSAMCore
import FixtureSupport
import Foundation
import Testing

/// `tests/goldens/masks.json`: what torch and Pillow give; `tests/test_shared_goldens.py` makes it.
struct SharedGoldens: Decodable, Sendable {
    struct MaskFacts: Decodable, Sendable {
        let sha256: String
        let area: Int
        let box: [Int]?
        let runs: Int
        let rle: [Int]?
        let rleSha256: String
    }

    struct MaskCase: Decodable, Sendable, CustomTestStringConvertible {
        let name: String
        let seed: UInt32
        let kind: String
        let sourceSize: [Int]
        let promptSize: Int
        let fit: String
        let maskResize: String
        let spots: [Float]
        let mask: MaskFacts
        let stability: [Int]

        var testDescription: String { name }

        var logits: [Float] { kind == "noisy" ? noisyLogits(seed) : smoothLogits(seed) }

        var geometry: ImageGeometry {
            let frame = ImageFrame(
                promptSize: promptSize, fit: ImageFrame.Fit(rawValue: fit) ?? .longestSide,
                maskResize: ImageFrame.MaskResize(rawValue: maskResize) ?? .bilinear)
            return ImageGeometry(source: PixelSize(width: sourceSize[1], height: sourceSize[0]), frame: frame)
        }
    }

    struct ResizeCase: Decodable, Sendable, CustomTestStringConvertible {
        let name: String
        let seed: UInt32
        let sourceSize: [Int]
        let size: Int
        let fit: String
        let scaledSize: [Int]
        let sha256: String
        let spots: [[UInt8]]

        var testDescription: String { name }
    }

    struct ScoreCase: Decodable, Sendable {
        let scores: [Float?]
        let best: Int?
    }

    struct ArrayCase: Decodable, Sendable {
        let shape: [Int]
        let values: [Float]
    }

    let masks: [MaskCase]
    let resized: [ResizeCase]
    let scores: [ScoreCase]
    let arrays: [String: ArrayCase]

    static func load() throws -> SharedGoldens {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(
            SharedGoldens.self, from: Data(contentsOf: Fixtures.goldens.appending(path: "masks.json")))
    }
}

/// Bits 16 to 23 of the states of s <- 1664525 s + 1013904223 mod 2^32 (Numerical Recipes), as in Python's file.
func lcgBytes(_ seed: UInt32, count: Int) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
        state = 1_664_525 &* state &+ 1_013_904_223
        return UInt8(truncatingIfNeeded: state >> 16)
    }
}

/// Sixteenths from -8 to below 8, no structure.
func noisyLogits(_ seed: UInt32) -> [Float] {
    lcgBytes(seed, count: 256 * 256).map { (Float($0) - 128) / 16 }
}

/// A bowl, positive inside, with ripples.
func smoothLogits(_ seed: UInt32) -> [Float] {
    let centre = lcgBytes(seed, count: 2).map { 64 + Int($0) / 2 }
    return (0..<256 * 256).map { index in
        let (y, x) = (index / 256, index % 256)
        let (down, across) = (y - centre[0], x - centre[1])
        let bowl = 5000 - down * down - 2 * across * across
        return Float(bowl + (y * 7 + x * 13) % 61 * 8) / 512
    }
}
