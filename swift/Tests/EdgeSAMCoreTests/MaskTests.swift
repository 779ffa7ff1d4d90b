import EdgeSAMCore
import Testing

struct MaskTests {
    let size = PixelSize(width: 3, height: 2)

    @Test func runLengthsAreColumnMajorAndBeginWithZeros() throws {
        // 1 0 0
        // 1 1 0
        let mask = try BinaryMask(size: size, bits: [1, 0, 0, 1, 1, 0])
        #expect(mask.rle().counts == [0, 2, 1, 1, 2])
        #expect(mask.rle(order: .rowMajor).counts == [0, 1, 2, 2, 1])
        #expect(mask.area == 3)
        #expect(mask.boundingBox == BinaryMask.BoundingBox(x0: 0, y0: 0, x1: 2, y1: 2))
        #expect(mask.alpha == [255, 0, 0, 255, 255, 0])
    }

    @Test func emptyAndFullMasksAreOneOrTwoRuns() throws {
        let empty = try BinaryMask(size: size, bits: [0, 0, 0, 0, 0, 0])
        #expect(empty.rle().counts == [6])
        #expect(empty.boundingBox == nil)
        let full = try BinaryMask(size: size, bits: [1, 1, 1, 1, 1, 1])
        #expect(full.rle().counts == [0, 6])
        #expect(try BinaryMask(rle: full.rle()) == full)
    }

    @Test(arguments: [[], [5], [7], [0, 3, 0, 3], [-1, 7], [3, Int.max], [6, 1]])
    func runsThatDoNotFillTheMaskAreRefused(_ counts: [Int]) {
        #expect(throws: MaskError.self) { try BinaryMask(rle: RunLengths(size: size, counts: counts)) }
    }

    @Test func hugeOrEmptySizesAreRefused() {
        for (width, height) in [(0, 4), (Int.max, 2), (-3, -2)] {
            let size = PixelSize(width: width, height: height)
            #expect(throws: MaskError.self) { try BinaryMask(rle: RunLengths(size: size, counts: [0])) }
            #expect(throws: MaskError.self) { try BinaryMask(size: size, bits: []) }
        }
        #expect(throws: MaskError.value(2, index: 1)) {
            try BinaryMask(size: PixelSize(width: 2, height: 1), bits: [0, 2])
        }
    }

    @Test func onlyLogitsAboveZeroAreSet() {
        let geometry = ImageGeometry(source: size, frame: ImageFrame())
        let mask = MaskProcessor(geometry: geometry).threshold([0, -0.0, 1e-30, -1e-30, .nan, .infinity])
        #expect(mask.bits == [0, 0, 1, 0, 0, 1])
    }

    @Test func stabilityCountsStrictlyAbove() {
        #expect(MaskScore.stability([1, 1.5, -1, -0.5, -2]) == 1 / Float(3))
        #expect(MaskScore.stability([-2, -3]) == 0)
        #expect(MaskScore.stability([0.3, 0.1], offset: 0.2) == 0.5)
    }

    @Test func bestOfAnotherNumberOfScoresIsRefused() {
        #expect(throws: MaskScoreError.count(scores: 2, candidates: 3)) {
            try MaskScore.best(scores: [0, 1], candidates: 3)
        }
        #expect(throws: MaskScoreError.count(scores: 0, candidates: 0)) {
            try MaskScore.best(scores: [], candidates: 0)
        }
    }
}
