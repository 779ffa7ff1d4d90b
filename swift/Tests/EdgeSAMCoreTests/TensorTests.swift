import EdgeSAMCore
import Testing

struct TensorTests {
    @Test func paddedRowsAndRepeatedDimensionsAreRead() throws {
        // Two rows of three, stored four apart; the leading dimension of size 1 has stride 0.
        let values: [Float] = [1, 2, 3, -9, 4, 5, 6]
        try values.withUnsafeBytes { bytes in
            let view = try TensorView(bytes: bytes, shape: [1, 2, 3], strides: [0, 4, 1], type: .float32)
            #expect(view.floats() == [1, 2, 3, 4, 5, 6])
            #expect(try view.value(at: [0, 1, 2]) == 6)
            #expect(!view.layout.isContiguous)
        }
    }

    @Test func everyOrderOfDimensionsIsRead() throws {
        let values: [Float] = (0..<24).map { Float($0) }
        try values.withUnsafeBytes { bytes in
            // Memory is (4, 3, 2); the view is its transpose.
            let view = try TensorView(bytes: bytes, shape: [2, 3, 4], strides: [1, 2, 6], type: .float32)
            var wanted: [Float] = []
            for a in 0..<2 {
                for b in 0..<3 {
                    for c in 0..<4 { wanted.append(Float(a + 2 * b + 6 * c)) }
                }
            }
            #expect(view.floats() == wanted)
        }
    }

    @Test func lastDimensionOfSizeOneIsRead() throws {
        let values: [Float] = [1, 0, 2, 0, 3]
        func read(_ shape: [Int], _ strides: [Int]) throws -> [Float] {
            try values.withUnsafeBytes { bytes in
                try TensorView(bytes: bytes, shape: shape, strides: strides, type: .float32).floats()
            }
        }
        #expect(try read([3, 1], [2, 0]) == [1, 2, 3])
        #expect(try read([], []) == [1])
        #expect(try read([1, 1], [7, 9]) == [1])
        #expect(try read([0, 4], [4, 1]) == [])
        #expect(try read([2], [0]) == [1, 1])
    }

    @Test func everyElementTypeIsReadAsWritten() throws {
        let values: [Float] = [0, 1, -2, 100]
        for type in ElementType.allCases {
            var memory = [UInt8](repeating: 0xAA, count: 8 * 8)
            try memory.withUnsafeMutableBytes { bytes in
                try MutableTensorView(bytes: bytes, shape: [2, 2], strides: [4, 2], type: type).store(values)
                let read = try TensorView(
                    bytes: UnsafeRawBufferPointer(bytes), shape: [2, 2], strides: [4, 2], type: type
                ).floats()
                switch type {
                case .bool: #expect(read == [0, 1, 1, 1])
                case .uint8: #expect(read == [0, 1, 0, 100])
                default: #expect(read == values, "\(type)")
                }
                #expect(bytes[type.byteCount] == 0xAA, "the gap between elements is left alone")
            }
        }
    }

    @Test func integersSaturateAndRoundToEven() throws {
        var memory = [Int32](repeating: 7, count: 6)
        try memory.withUnsafeMutableBytes { bytes in
            try MutableTensorView(bytes: bytes, shape: [6], strides: [1], type: .int32)
                .store([2.5, 3.5, -2.5, 1e20, -.infinity, .nan])
        }
        #expect(memory == [2, 4, -2, .max, .min, 0])
    }

    @Test func unalignedMemoryIsRead() throws {
        let bytes: [UInt8] = [0xFF, 0, 0, 0x80, 0x3F]
        try bytes.withUnsafeBytes { raw in
            let view = try TensorView(
                bytes: UnsafeRawBufferPointer(rebasing: raw[1...]), shape: [1], strides: [1], type: .float32)
            #expect(view.floats() == [1])
        }
    }

    static let badLayouts: [([Int], [Int], TensorError)] = [
        ([2, 3], [4, 1], .outOfBounds(shape: [2, 3], strides: [4, 1], needed: 28, given: 24)),
        ([2, 3], [3], .rank(shape: [2, 3], strides: [3])),
        ([-1], [1], .negative(shape: [-1], strides: [1])),
        ([2], [-1], .negative(shape: [2], strides: [-1])),
        ([Int.max, 2], [0, 0], .tooLarge(shape: [Int.max, 2])),
        ([3], [Int.max], .tooLarge(shape: [3])),
        ([2], [Int.max / 2], .tooLarge(shape: [2])),
    ]

    @Test(arguments: badLayouts)
    func badLayoutIsRefused(_ shape: [Int], _ strides: [Int], _ wanted: TensorError) {
        let memory = [UInt8](repeating: 0, count: 24)
        memory.withUnsafeBytes { bytes in
            let error = #expect(throws: TensorError.self) {
                try TensorView(bytes: bytes, shape: shape, strides: strides, type: .float32)
            }
            #expect(error == wanted)
            #expect(error?.localizedDescription.contains("\n") == false)
        }
    }

    @Test func elementsOutsideAreRefused() throws {
        let memory: [Float] = [1, 2]
        try memory.withUnsafeBytes { bytes in
            let view = try TensorView(bytes: bytes, shape: [2], strides: [1], type: .float32)
            for index in [[2], [-1], [], [0, 0]] {
                #expect(throws: TensorError.index(index, shape: [2])) { try view.value(at: index) }
            }
        }
    }

    @Test func storingAnotherNumberOfValuesIsRefused() {
        var memory = [Float](repeating: 0, count: 2)
        memory.withUnsafeMutableBytes { bytes in
            #expect(throws: TensorError.count(needed: 2, given: 1, shape: [2])) {
                try MutableTensorView(bytes: bytes, shape: [2], strides: [1], type: .float32).store([1])
            }
        }
    }
}

struct HalfBitsTests {
    @Test func everyHalfComesBack() {
        for bits in UInt16.min...UInt16.max {
            let value = HalfBits.float(bits)
            if value.isNaN {
                #expect(bits & 0x7FFF > 0x7C00)
                #expect(HalfBits.float(HalfBits.bits(value)).isNaN)
            } else {
                #expect(HalfBits.bits(value) == bits)
            }
        }
    }

    static let known: [(Float, UInt16)] = [
        (1, 0x3C00), (-2, 0xC000), (65504, 0x7BFF), (0x1p-24, 0x0001), (0x1p-14, 0x0400),
        (-0.0, 0x8000), (.infinity, 0x7C00), (-.infinity, 0xFC00), (1 / 3, 0x3555),
    ]

    @Test(arguments: known)
    func knownValuesAreThoseOfTheStandard(_ value: Float, _ bits: UInt16) {
        #expect(HalfBits.bits(value) == bits)
    }

    @Test func halvesBetweenTwoNeighboursGoToTheEvenOne() {
        for low in UInt16(0)..<0x7BFF {
            let (below, above) = (HalfBits.float(low), HalfBits.float(low + 1))
            let middle = (below + above) / 2
            #expect(HalfBits.bits(middle) == (low % 2 == 0 ? low : low + 1))
            #expect(HalfBits.bits(middle.nextDown) == low)
            #expect(HalfBits.bits(middle.nextUp) == low + 1)
        }
        #expect(HalfBits.bits(65519.996) == 0x7BFF)
        #expect(HalfBits.bits(65520) == 0x7C00)
        #expect(HalfBits.bits(-1e30) == 0xFC00)
    }
}
