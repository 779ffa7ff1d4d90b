import EdgeSAMCore
import Testing

struct ImageTests {
    @Test func bytesWithPaddedRowsBecomeRGB() throws {
        // Two rows of one pixel, six bytes a row; the last row may lack its padding.
        let bytes: [UInt8] = [1, 2, 3, 200, 99, 99, 4, 5, 6, 0]
        try bytes.withUnsafeBytes { raw in
            let blueFirst = try RGBImage(bgra: raw, bytesPerRow: 6, width: 1, height: 2)
            #expect(blueFirst.pixels == [3, 2, 1, 6, 5, 4])
            let redFirst = try RGBImage(rgba: raw, bytesPerRow: 6, width: 1, height: 2)
            #expect(redFirst.pixels == [1, 2, 3, 4, 5, 6])
        }
    }

    @Test(arguments: [(0, 1), (1, 0), (-1, 1), (70_000, 1), (1, 70_000), (65_536, 65_536), (Int.max, Int.max)])
    func impossibleSizesAreRefused(_ width: Int, _ height: Int) {
        #expect(throws: ImageError.size(width: width, height: height)) {
            try RGBImage(width: width, height: height, pixels: [])
        }
    }

    @Test func buffersTooShortAreRefused() {
        #expect(throws: ImageError.byteCount(needed: 6, given: 5, width: 2, height: 1)) {
            try RGBImage(width: 2, height: 1, pixels: [0, 0, 0, 0, 0])
        }
        [UInt8](repeating: 0, count: 15).withUnsafeBytes { raw in
            #expect(throws: ImageError.byteCount(needed: 16, given: 15, width: 2, height: 2)) {
                try RGBImage(bgra: raw, bytesPerRow: 8, width: 2, height: 2)
            }
            #expect(throws: ImageError.rowTooShort(needed: 8, given: 7, width: 2)) {
                try RGBImage(bgra: raw, bytesPerRow: 7, width: 2, height: 1)
            }
            for height in [2, 3] {
                #expect(throws: ImageError.self) {
                    try RGBImage(rgba: raw, bytesPerRow: .max, width: 2, height: height)
                }
            }
        }
    }

    @Test func paddingIsTheColourInPixelsAndZeroInTheTensor() throws {
        let frame = ImageFrame(size: 2, mean: [10, 20, 30], std: [2, 4, 8], padColour: [7, 8, 9])
        let image = try RGBImage(width: 2, height: 1, pixels: [10, 20, 30, 12, 24, 22])
        let prepared = ImagePreparer(frame: frame).prepare(image)
        #expect(prepared.pixels == [10, 20, 30, 12, 24, 22, 7, 8, 9, 7, 8, 9])
        #expect(prepared.tensor() == [0, 1, 0, 0, 0, 1, 0, 0, 0, -1, 0, 0])
    }
}
