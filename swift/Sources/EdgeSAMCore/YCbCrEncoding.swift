/// How a video's luma and colour differences stand for red, green and blue.
public struct YCbCrEncoding: Sendable, Hashable {
    /// Shares of red and blue in luma.
    public enum Matrix: Sendable, Hashable, CaseIterable {
        /// ITU-R BT.601, section 2.5.1: standard definition, JPEG.
        case bt601
        /// ITU-R BT.709, section 3.2: high definition.
        case bt709
        /// ITU-R BT.2020, table 4, non-constant luminance: ultra-high definition.
        case bt2020

        var red: Double {
            switch self {
            case .bt601: 0.299
            case .bt709: 0.2126
            case .bt2020: 0.2627
            }
        }

        var blue: Double {
            switch self {
            case .bt601: 0.114
            case .bt709: 0.0722
            case .bt2020: 0.0593
            }
        }
    }

    /// Which bytes stand for black and white.
    public enum Range: Sendable, Hashable, CaseIterable {
        /// Luma 0 to 255.
        case full
        /// Luma 16 to 235, colour differences 16 to 240.
        case video
    }

    public var matrix: Matrix
    public var range: Range

    public init(matrix: Matrix, range: Range) {
        self.matrix = matrix
        self.range = range
    }
}

/// What each byte adds to red, green and blue, in units of 2^-20.
private struct YCbCrTables {
    static let fractionBits: Int32 = 20

    var luma: [Int32] = []
    var redOfCr: [Int32] = []
    var greenOfCr: [Int32] = []
    var greenOfCb: [Int32] = []
    var blueOfCb: [Int32] = []

    init(_ encoding: YCbCrEncoding) {
        let (red, blue) = (encoding.matrix.red, encoding.matrix.blue)
        let green = 1 - red - blue
        let (black, lumaScale, chromaScale) = encoding.range == .full ? (0.0, 1.0, 1.0) : (16, 255.0 / 219, 255.0 / 224)
        func fixed(_ value: Double) -> Int32 { Int32((value * Double(1 << Self.fractionBits)).rounded()) }
        for byte in 0..<256 {
            let (luminance, difference) = ((Double(byte) - black) * lumaScale, (Double(byte) - 128) * chromaScale)
            luma.append(fixed(luminance + 0.5))  // half, so that cutting the fraction off rounds
            redOfCr.append(fixed(2 * (1 - red) * difference))
            greenOfCr.append(fixed(-2 * (1 - red) * red / green * difference))
            greenOfCb.append(fixed(-2 * (1 - blue) * blue / green * difference))
            blueOfCb.append(fixed(2 * (1 - blue) * difference))
        }
    }
}

extension RGBImage {
    /// Convert a video frame with one plane of luma and one of colour differences, Cb and Cr in turn, for every two by two
    /// pixels: `kCVPixelFormatType_420YpCbCr8BiPlanarFullRange` and its kin.
    ///
    /// The four pixels share their colour difference. Values are rounded to the nearest and cut off at 0 and 255.
    ///
    /// - Parameters:
    ///   - luma: `height` rows of `width` bytes, `lumaBytesPerRow` apart.
    ///   - chroma: half as many rows and columns of pairs, rounded up, `chromaBytesPerRow` apart.
    /// - Throws: `ImageError` when a plane has too few bytes.
    public init(
        luma: UnsafeRawBufferPointer, lumaBytesPerRow: Int, chroma: UnsafeRawBufferPointer, chromaBytesPerRow: Int,
        width: Int, height: Int, encoding: YCbCrEncoding
    ) throws(ImageError) {
        try Self.check(width, height)
        try Self.check(luma, bytesPerRow: lumaBytesPerRow, needed: width, width: width, height: height)
        let (columns, rows) = ((width + 1) / 2, (height + 1) / 2)
        try Self.check(chroma, bytesPerRow: chromaBytesPerRow, needed: 2 * columns, width: columns, height: rows)
        let tables = YCbCrTables(encoding)
        let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { target, count in
            var next = 0
            @inline(__always) func put(_ sum: Int32) {
                target[next] = UInt8(truncatingIfNeeded: min(max(sum &>> YCbCrTables.fractionBits, 0), 255))
                next += 1
            }
            for y in 0..<height {
                let (light, colour) = (y * lumaBytesPerRow, y / 2 * chromaBytesPerRow)
                for x in 0..<width {
                    let (cb, cr) = (Int(chroma[colour + (x & ~1)]), Int(chroma[colour + (x | 1)]))
                    let luminance = tables.luma[Int(luma[light + x])]
                    put(luminance &+ tables.redOfCr[cr])
                    put(luminance &+ tables.greenOfCr[cr] &+ tables.greenOfCb[cb])
                    put(luminance &+ tables.blueOfCb[cb])
                }
            }
            count = next
        }
        self.init(size: PixelSize(width: width, height: height), checked: pixels)
    }
}
