import Testing

@preconcurrency @testable import CoreML

/// Arrays in memory: offsets worked out by hand.
@Suite struct ArrayTests {
    @Test func paddedRowsAreMultiplesOf64Bytes() throws {
        #expect(try ArrayLayout(padded: [2, 3, 5], dataType: .float32).strides == [48, 16, 1])
        #expect(try ArrayLayout(padded: [2, 3, 33], dataType: .float16).strides == [192, 64, 1])
        #expect(try ArrayLayout(padded: [4], dataType: .int32).strides == [1])
        #expect(try ArrayLayout(padded: [1, 4, 256, 256], dataType: .float16).strides == [262144, 65536, 256, 1])
        #expect(try ArrayLayout(padded: [2, 3, 5], dataType: .float32).byteCount == 2 * 48 * 4)
    }

    @Test func runsCoverEveryElementInOrder() throws {
        let layout = try ArrayLayout(shape: [2, 2, 3], strides: [20, 8, 1], dataType: .float32)
        var runs: [[Int]] = []
        layout.forEachRun { runs.append([$0, $1, $2]) }
        #expect(runs == [[0, 0, 3], [8, 3, 3], [20, 6, 3], [28, 9, 3]])
        var whole: [[Int]] = []
        try ArrayLayout(dense: [2, 2, 3], dataType: .float32).forEachRun { whole.append([$0, $1, $2]) }
        #expect(whole == [[0, 0, 12]])
        var columns: [[Int]] = []
        try ArrayLayout(shape: [2, 2], strides: [1, 2], dataType: .float32).forEachRun { columns.append([$0, $1, $2]) }
        #expect(columns == [[0, 0, 1], [2, 1, 1], [1, 2, 1], [3, 3, 1]])
        try ArrayLayout(dense: [2, 0, 3], dataType: .float32).forEachRun { _, _, _ in Issue.record("an element") }
    }

    @Test func rowMajorMeansNoOverlap() throws {
        let overlapping = try ArrayLayout(shape: [2, 3], strides: [2, 1], dataType: .float32)
        let gaps = try ArrayLayout(shape: [2, 3], strides: [5, 1], dataType: .float32)
        let spread = try ArrayLayout(shape: [2, 3], strides: [6, 2], dataType: .float32)
        #expect(!overlapping.isRowMajor && gaps.isRowMajor && !spread.isRowMajor)
    }

    @Test func usesTheCallersMemoryAndGivesItBack() throws {
        var given = false
        let memory = UnsafeMutablePointer<Int32>.allocate(capacity: 8)
        for index in 0..<8 { memory[index] = Int32(index) }
        do {
            let array = try MLMultiArray(
                dataPointer: memory, shape: [2, 3], dataType: .int32, strides: [4, 1],
                deallocator: { _ in given = true })
            #expect(array[3].intValue == 4 && array[[1, 2]].intValue == 6 && array.count == 6)
            array[3] = 40
            #expect(memory[4] == 40 && !given)
            array.withUnsafeMutableBytes { bytes, strides in
                #expect(bytes.count == 32 && strides == [4, 1])
            }
        }
        #expect(given)
        memory.deallocate()
    }

    @Test func newArraysAreNotZero() throws {
        let array = try MLMultiArray(shape: [2, 3], dataType: .float32)
        #expect(array.strides == [3, 1] && array[0].floatValue.isNaN)
        array.withUnsafeMutableBufferPointer(ofType: Float.self) { values, _ in values.update(repeating: 2) }
        #expect(array.withUnsafeBufferPointer(ofType: Float.self) { $0.reduce(0, +) } == 12)
    }

    @Test func stridesMustFitTheShape() {
        var number: Float = 0
        #expect(throws: MLModelError.self) {
            try MLMultiArray(dataPointer: &number, shape: [1, 1], dataType: .float32, strides: [1])
        }
        #expect(throws: MLModelError.self) { try ArrayLayout(dense: [-1], dataType: .float32) }
    }

    @Test func pixelBuffersRefuseWhatTheyCannotHold() {
        var made: CVPixelBuffer?
        #expect(CVPixelBufferCreate(kCFAllocatorDefault, 4, 4, 0, nil, &made) == kCVReturnInvalidPixelFormat)
        #expect(
            CVPixelBufferCreate(kCFAllocatorDefault, 0, 4, kCVPixelFormatType_32BGRA, nil, &made)
                == kCVReturnInvalidSize)
        #expect(made == nil)
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey: [:] as CFDictionary] as CFDictionary
        #expect(
            CVPixelBufferCreate(kCFAllocatorDefault, 17, 2, kCVPixelFormatType_32BGRA, attributes, &made)
                == kCVReturnSuccess)
        #expect(made.map(CVPixelBufferGetBytesPerRow) == 128)
    }
}
