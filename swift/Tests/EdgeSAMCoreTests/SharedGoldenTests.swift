import EdgeSAMCore
import EdgeSAMDigest
import FixtureSupport
import Foundation
import Testing

struct SharedGoldenTests {
    @Test func goldenFileHasCases() throws {
        let goldens = try SharedGoldens.load()
        #expect(goldens.masks.count >= 24)
        #expect(goldens.resized.count >= 23)
        #expect(goldens.scores.count >= 5)
        #expect(goldens.arrays.count >= 10)
    }

    @Test(arguments: try SharedGoldens.load().masks)
    func masksAreTorchsBitForBit(_ golden: SharedGoldens.MaskCase) throws {
        let processor = MaskProcessor(geometry: golden.geometry)
        let logits = golden.logits
        let whole = processor.upsample(logits)
        try #require(whole.count == golden.geometry.source.area)
        for (index, wanted) in zip([0, whole.count / 3, whole.count - 1], golden.spots) {
            #expect(abs(whole[index] - wanted) <= 2e-6, "logit \(index)")
        }
        let mask = processor.mask(logits)
        #expect(mask == processor.threshold(whole))
        #expect(mask.area == golden.mask.area)
        #expect(SHA256.hexDigest(of: mask.bits) == golden.mask.sha256)
        #expect(mask.boundingBox.map { [$0.x0, $0.y0, $0.x1, $0.y1] } == golden.mask.box)
    }

    @Test(arguments: try SharedGoldens.load().masks)
    func runLengthsAreThoseOfTheGoldens(_ golden: SharedGoldens.MaskCase) throws {
        let mask = MaskProcessor(geometry: golden.geometry).mask(golden.logits)
        let lengths = mask.rle()
        #expect(lengths.counts.count == golden.mask.runs)
        if let wanted = golden.mask.rle { #expect(lengths.counts == wanted) }
        let text = lengths.counts.map(String.init).joined(separator: ",")
        #expect(SHA256.hexDigest(of: Array(text.utf8)) == golden.mask.rleSha256)
        #expect(try BinaryMask(rle: lengths) == mask)
        #expect(try BinaryMask(rle: mask.rle(order: .rowMajor)) == mask)
    }

    @Test(arguments: try SharedGoldens.load().masks)
    func stabilityIsTheRatioOfTheGoldensCounts(_ golden: SharedGoldens.MaskCase) {
        let wanted = Float(Double(golden.stability[0]) / Double(max(golden.stability[1], 1)))
        #expect(MaskScore.stability(golden.logits) == wanted)
    }

    @Test(arguments: try SharedGoldens.load().resized)
    func picturesAreResizedAsPillowDoes(_ golden: SharedGoldens.ResizeCase) throws {
        let (height, width) = (golden.sourceSize[0], golden.sourceSize[1])
        let bytes = lcgBytes(golden.seed, count: height * width * 3)
        let fit = try #require(ImageFrame.Fit(rawValue: golden.fit))
        let frame = ImageFrame(size: golden.size, fit: fit)
        let prepared = ImagePreparer(frame: frame).prepare(try RGBImage(width: width, height: height, pixels: bytes))
        let scaled = prepared.geometry.scaledSize
        #expect([scaled.height, scaled.width] == golden.scaledSize)
        var resized: [UInt8] = []
        for row in 0..<scaled.height {
            let start = row * golden.size * 3
            resized += prepared.pixels[start..<start + scaled.width * 3]
        }
        for (index, wanted) in zip([0, scaled.area / 3, scaled.area - 1], golden.spots) {
            #expect(Array(resized[index * 3..<index * 3 + 3]) == wanted, "pixel \(index)")
        }
        #expect(SHA256.hexDigest(of: resized) == golden.sha256)
    }

    @Test func bestMaskIsThatOfTheGoldens() throws {
        for golden in try SharedGoldens.load().scores {
            let scores = golden.scores.map { $0 ?? .nan }
            if let best = golden.best {
                #expect(try MaskScore.best(scores: scores, candidates: scores.count) == best)
            } else {
                #expect(throws: MaskScoreError.allNaN(candidates: scores.count)) {
                    try MaskScore.best(scores: scores, candidates: scores.count)
                }
            }
        }
    }

    @Test func numpyFilesAreReadAndWritten() throws {
        for (name, golden) in try SharedGoldens.load().arrays {
            let file = try Data(contentsOf: Fixtures.goldens.appending(path: "geometry/\(name).npy"))
            let array = try NPYArray(file: file)
            #expect(array.shape == golden.shape, "\(name)")
            #expect(array.floats() == golden.values, "\(name)")
            #expect(array.file() == file, "\(name) is written as NumPy writes it")
        }
    }
}
