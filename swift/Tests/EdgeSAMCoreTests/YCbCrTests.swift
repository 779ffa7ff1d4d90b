import EdgeSAMCore
import Testing

/// Colours of video frames, on the colour bars that video people know by heart.
struct YCbCrTests {
    /// Full bars, 8 bits, video range: luma, Cb, Cr. BT.601: ITU-R BT.1729, table 2; BT.709: SMPTE RP 219, rounded.
    static let bars: [(YCbCrEncoding.Matrix, [UInt8], [Int])] = [
        (.bt601, [235, 128, 128], [255, 255, 255]), (.bt601, [210, 16, 146], [255, 255, 0]),
        (.bt601, [170, 166, 16], [0, 255, 255]), (.bt601, [145, 54, 34], [0, 255, 0]),
        (.bt601, [106, 202, 222], [255, 0, 255]), (.bt601, [81, 90, 240], [255, 0, 0]),
        (.bt601, [41, 240, 110], [0, 0, 255]), (.bt601, [16, 128, 128], [0, 0, 0]),
        (.bt709, [235, 128, 128], [255, 255, 255]), (.bt709, [219, 16, 138], [255, 255, 0]),
        (.bt709, [188, 154, 16], [0, 255, 255]), (.bt709, [173, 42, 26], [0, 255, 0]),
        (.bt709, [78, 214, 230], [255, 0, 255]), (.bt709, [63, 102, 240], [255, 0, 0]),
        (.bt709, [32, 240, 118], [0, 0, 255]), (.bt709, [16, 128, 128], [0, 0, 0]),
    ]

    @Test(arguments: bars)
    func colourBarsAreTheirColours(_ matrix: YCbCrEncoding.Matrix, _ code: [UInt8], _ colour: [Int]) throws {
        let found = try image(code, YCbCrEncoding(matrix: matrix, range: .video))
        // The codes are rounded, by up to half a step of 255 / 219 in luma and of 2 x 255 / 224 in differences.
        for (value, expected) in zip(found.pixels, colour) { #expect(abs(Int(value) - expected) <= 2) }
    }

    private func image(_ code: [UInt8], _ encoding: YCbCrEncoding) throws -> RGBImage {
        try [code[0]].withUnsafeBytes { luma in
            try [code[1], code[2]].withUnsafeBytes { chroma in
                try RGBImage(
                    luma: luma, lumaBytesPerRow: 1, chroma: chroma, chromaBytesPerRow: 2, width: 1, height: 1,
                    encoding: encoding)
            }
        }
    }

    /// The equations of the standards in double precision, written out with their published numbers.
    static let equations: [(YCbCrEncoding.Matrix, red: Double, greenCb: Double, greenCr: Double, blue: Double)] = [
        (.bt601, 1.402, -0.344136, -0.714136, 1.772),
        (.bt709, 1.5748, -0.187324, -0.468124, 1.8556),
        (.bt2020, 1.4746, -0.164553, -0.571353, 1.8814),
    ]

    @Test(arguments: equations)
    func everyCodeIsWithinHalfAStepOfTheEquations(
        _ matrix: YCbCrEncoding.Matrix, _ red: Double, _ greenCb: Double, _ greenCr: Double, _ blue: Double
    ) throws {
        let codes = stride(from: 0, to: 256 * 256 * 256, by: 977).map { [$0 / 65536, $0 / 256 % 256, $0 % 256] }
        let luma = codes.flatMap { [UInt8($0[0]), UInt8($0[0])] }
        let chroma = codes.flatMap { [UInt8($0[1]), UInt8($0[2])] }
        for range in YCbCrEncoding.Range.allCases {
            let found = try luma.withUnsafeBytes { luma in
                try chroma.withUnsafeBytes { chroma in
                    try RGBImage(
                        luma: luma, lumaBytesPerRow: luma.count, chroma: chroma, chromaBytesPerRow: chroma.count,
                        width: luma.count, height: 1, encoding: YCbCrEncoding(matrix: matrix, range: range))
                }
            }
            let scale = range == .full ? (0.0, 1.0, 1.0) : (16, 255.0 / 219, 255.0 / 224)
            var largest = 0.0
            for (index, code) in codes.enumerated() {
                let y = (Double(code[0]) - scale.0) * scale.1
                let (cb, cr) = ((Double(code[1]) - 128) * scale.2, (Double(code[2]) - 128) * scale.2)
                let exact = [y + red * cr, y + greenCb * cb + greenCr * cr, y + blue * cb]
                for channel in 0..<3 {
                    let value = Double(found.pixels[index * 6 + channel])
                    largest = max(largest, abs(value - min(max(exact[channel], 0), 255)))
                }
            }
            #expect(largest <= 0.501, "half a step, and the published numbers' rounding")
        }
    }

    @Test func fourPixelsShareADifferenceAndOddSidesHaveTheirOwn() throws {
        // 3 x 3 pixels, two by two pairs, rows padded.
        let luma: [UInt8] = [10, 20, 30, 99, 40, 50, 60, 99, 70, 80, 90]
        let chroma: [UInt8] = [128, 228, 128, 128, 99, 99, 128, 128, 128, 28]
        let image = try luma.withUnsafeBytes { luma in
            try chroma.withUnsafeBytes { chroma in
                try RGBImage(
                    luma: luma, lumaBytesPerRow: 4, chroma: chroma, chromaBytesPerRow: 6, width: 3, height: 3,
                    encoding: YCbCrEncoding(matrix: .bt601, range: .full))
            }
        }
        // Red is luma + 1.402 (Cr - 128), cut off at 0 and 255; blue is luma.
        #expect(stride(from: 0, to: 27, by: 3).map { image.pixels[$0] } == [150, 160, 30, 180, 190, 60, 70, 80, 0])
        #expect(stride(from: 2, to: 27, by: 3).map { image.pixels[$0] } == [10, 20, 30, 40, 50, 60, 70, 80, 90])
    }

    @Test func planesTooShortAreRefused() {
        let bytes = [UInt8](repeating: 0, count: 8)
        func make(_ luma: Int, _ lumaRow: Int, _ chroma: Int, _ chromaRow: Int) throws {
            _ = try bytes.withUnsafeBytes { raw in
                try RGBImage(
                    luma: UnsafeRawBufferPointer(rebasing: raw[..<luma]), lumaBytesPerRow: lumaRow,
                    chroma: UnsafeRawBufferPointer(rebasing: raw[..<chroma]), chromaBytesPerRow: chromaRow, width: 3,
                    height: 2, encoding: YCbCrEncoding(matrix: .bt709, range: .video))
            }
        }
        #expect(throws: Never.self) { try make(6, 3, 4, 4) }
        let bad = [(5, 3, 4, 4), (6, 2, 4, 4), (6, 3, 3, 4), (6, 3, 4, 3), (6, .max, 4, 4)]
        for (luma, lumaRow, chroma, chromaRow) in bad {
            #expect(throws: ImageError.self) { try make(luma, lumaRow, chroma, chromaRow) }
        }
    }
}

/// The quick preparation beside the exact one.
struct FastPreparationTests {
    private let frame = ImageFrame(size: 64)

    @Test func equalSizesAndFlatImagesAreLeftAlone() throws {
        let same = try RGBImage(width: 64, height: 64, pixels: lcgBytes(5, count: 64 * 64 * 3))
        #expect(ImagePreparer(frame: frame).prepare(same, .fast).pixels == same.pixels)
        let flat = try RGBImage(width: 300, height: 200, pixels: [UInt8](repeating: 77, count: 300 * 200 * 3))
        let preparer = ImagePreparer(frame: frame)
        let (fast, exact) = (preparer.prepare(flat, .fast), preparer.prepare(flat))
        #expect(fast.pixels == exact.pixels)
        #expect(fast.geometry == exact.geometry)
    }

    @Test func pointBetweenFourPixelsIsTheirMean() throws {
        // Two to one: every output pixel lies in the middle of four.
        let image = try RGBImage(width: 128, height: 128, pixels: lcgBytes(9, count: 128 * 128 * 3))
        let fast = ImagePreparer(frame: frame).prepare(image, .fast)
        for (x, y) in [(0, 0), (63, 0), (17, 40), (63, 63)] {
            for channel in 0..<3 {
                var sum = 0
                for (right, below) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let pixel = (2 * y + below) * 128 + 2 * x + right
                    sum += Int(image.pixels[pixel * 3 + channel])
                }
                #expect(Int(fast.pixels[(y * 64 + x) * 3 + channel]) == (sum + 2) / 4)
            }
        }
    }

    @Test(arguments: [(97, 61), (61, 97), (1, 1), (1, 50), (1000, 3), (64, 31)])
    func smoothImagesHardlyDiffer(_ width: Int, _ height: Int) throws {
        var pixels: [UInt8] = []
        for y in 0..<height {
            for x in 0..<width { pixels += [UInt8(x * 255 / width), UInt8(y * 255 / height), 128] }
        }
        let image = try RGBImage(width: width, height: height, pixels: pixels)
        let preparer = ImagePreparer(frame: frame)
        let (fast, exact) = (preparer.prepare(image, .fast), preparer.prepare(image))
        let largest = zip(fast.pixels, exact.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 0
        // A ramp's step where the triangle's support reaches over the edge.
        #expect(largest <= max(3, 255 / min(width, height) / 2))
    }
}
