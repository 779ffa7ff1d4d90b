import CoreML
import EdgeSAMCore
import Foundation
import Testing

@testable import EdgeSAM

/// What needs no model: arrays in and out, candidates, contracts, messages.
struct ValueTests {
    private let geometry = ImageGeometry(source: PixelSize(width: 8, height: 4), frame: ImageFrame())

    // MARK: Arrays

    @Test func outputWithPaddedHalfRowsIsReadDense() throws {
        // Rows of three halves, 32 elements apart, as the Neural Engine returns them.
        var memory = [UInt16](repeating: HalfBits.bits(-99), count: 64)
        for (index, value) in [Float(1), -2, 0.5, 3, 65504, 0.25].enumerated() {
            memory[index / 3 * 32 + index % 3] = HalfBits.bits(value)
        }
        let values = try memory.withUnsafeMutableBytes { bytes in
            try SharedTensor(
                MLMultiArray(
                    dataPointer: #require(bytes.baseAddress), shape: [2, 3], dataType: .float16, strides: [32, 1],
                    deallocator: nil)
            ).floats()
        }
        #expect(values == [1, -2, 0.5, 3, 65504, 0.25])
    }

    @Test func outputWithoutStridesIsDense() throws {
        #expect(MLMultiArray.readable(strides: [0], shape: [4]) == [1])
        #expect(MLMultiArray.readable(strides: [0, 0, 0], shape: [2, 3, 4]) == [12, 4, 1])
        #expect(MLMultiArray.readable(strides: [64, 1], shape: [2, 3]) == [64, 1])
        // The stand-in reports no bytes for it, as Core ML does.
        var memory: [Float] = [1, 2, 3, 4, 5, 6]
        let values = try memory.withUnsafeMutableBytes { bytes in
            let array = try MLMultiArray(
                dataPointer: #require(bytes.baseAddress), shape: [2, 3], dataType: .float32, strides: [0, 0],
                deallocator: nil)
            array.withUnsafeBytes { #expect($0.count == 0) }
            return try SharedTensor(array).floats()
        }
        #expect(values == [1, 2, 3, 4, 5, 6])
    }

    @Test(arguments: [MLMultiArrayDataType.float16, .float32])
    func inputHasTheDeclaredType(type: MLMultiArrayDataType) throws {
        for shape in [[2, 2], [1, 4], [4]] {
            let array = try MemoryPool().array(shape: shape, type: type)
            try array.store([1, 2.5, -3, 0.1])
            #expect(array.dataType == type)
            #expect(array.sizes == shape)
            let tenth: Float = type == .float16 ? 0.099975586 : 0.1  // the half nearest to 0.1
            #expect(try SharedTensor(array).floats() == [1, 2.5, -3, tenth])
        }
    }

    @Test func wideHalvesLieInASurface() throws {
        let array = try MemoryPool().array(shape: [1, 2, 3, 40], type: .float16)
        #expect(array.pixelBuffer != nil)
        let values = (0..<240).map { Float($0) }
        try array.store(values)
        #expect(try SharedTensor(array).floats() == values)
    }

    @Test func memoryIsUsedAgainOnceItsLastUserIsGone() throws {
        let pool = MemoryPool()
        var shared: SharedTensor? = SharedTensor(try pool.array(shape: [4], type: .float32), pool: pool)
        let first = ObjectIdentifier(try #require(shared?.array))
        let other = try pool.array(shape: [4], type: .float32)
        #expect(ObjectIdentifier(other) != first)
        shared = nil
        #expect(try pool.array(shape: [8], type: .float32) !== other)
        #expect(ObjectIdentifier(try pool.array(shape: [4], type: .float32)) == first)
        let image = try pool.image(PixelSize(width: 4, height: 2))
        pool.giveBack(image)
        #expect(try pool.image(PixelSize(width: 2, height: 4)) !== image)
        #expect(try pool.image(PixelSize(width: 4, height: 2)) === image)
    }

    @Test func inputWithTooFewValuesIsRefused() {
        let pool = MemoryPool()
        #expect(throws: TensorError.self) {
            try NetworkInputs(["a": .values([1], shape: [2, 2], type: .float32)], pool: pool)
        }
        #expect(throws: EdgeSAMError.self) { try NetworkInputs(["a": .image(rgb: [1, 2, 3], side: 2)], pool: pool) }
    }

    @Test func imageBecomesOpaqueBlueGreenRed() throws {
        let pixels: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        let inputs = try NetworkInputs(["a": .image(rgb: pixels, side: 2)], pool: MemoryPool())
        let buffer = try #require(try inputs.provider().featureValue(for: "a")?.imageBufferValue)
        let base = try #require(CVPixelBufferGetBaseAddress(buffer))
        let row = base + CVPixelBufferGetBytesPerRow(buffer)
        #expect(Array(UnsafeRawBufferPointer(start: base, count: 8)) == [3, 2, 1, 255, 6, 5, 4, 255])
        #expect(Array(UnsafeRawBufferPointer(start: row, count: 8)) == [9, 8, 7, 255, 12, 11, 10, 255])
    }

    // MARK: Candidates

    private func candidate(score: Float, logit: Float = 1, token: Int = 0) -> MaskCandidate {
        MaskCandidate(
            token: token, score: score, logits: [Float](repeating: logit, count: 65536), geometry: geometry)
    }

    @Test func bestIsTheHighestScoreAndNeverNaN() {
        let scores: [Float] = [.nan, 0.5, 0.7, 0.7]
        let candidates = scores.enumerated().map { candidate(score: $1, token: $0) }
        #expect(candidates.best?.token == 2)
        #expect([MaskCandidate]().best == nil)
        #expect([candidate(score: .nan)].best == nil)
    }

    @Test func maskBoxAndStabilityFollowTheLogits() {
        let full = candidate(score: 1, logit: 2)
        #expect(full.mask.size == PixelSize(width: 8, height: 4))
        #expect(full.mask.bits == [UInt8](repeating: 1, count: 32))
        #expect(full.boundingBox == BinaryMask.BoundingBox(x0: 0, y0: 0, x1: 8, y1: 4))
        #expect(full.stabilityScore == 1)
        let empty = candidate(score: 1, logit: -2)
        #expect(empty.mask.area == 0)
        #expect(empty.boundingBox == nil)
        #expect(empty.stabilityScore == 0)
        // 0.5 is above -1 and below 1: outside when the threshold rises, inside when it falls.
        #expect(candidate(score: 1, logit: 0.5).stabilityScore == 0)
    }

    @Test func maskAskedForAtTheSameTimeIsOne() async {
        let shared = candidate(score: 1, logit: 2)
        let areas = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 { group.addTask { shared.mask.area } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(areas == [Int](repeating: 32, count: 8))
    }

    // MARK: Options, messages

    @Test func optionsReachCoreML() throws {
        let options = EdgeSAMOptions(
            encoderUnits: .all, reshapeFrequency: .infrequent, specialization: .fastPrediction)
        #expect(options.decoderUnits == .cpuAndNeuralEngine)
        #expect(try options.configuration(units: options.encoderUnits, function: nil).computeUnits == .all)
        let plain = try EdgeSAMOptions().configuration(units: .cpuOnly, function: nil)
        guard #available(iOS 18, macOS 15, visionOS 2, *) else { return }
        let configuration = try options.configuration(units: options.encoderUnits, function: "points_2")
        #expect(configuration.functionName == "points_2")
        #expect(configuration.optimizationHints.reshapeFrequency == .infrequent)
        #expect(configuration.optimizationHints.specializationStrategy == .fastPrediction)
        #expect(plain.functionName == nil)
        #expect(plain.optimizationHints == MLModelConfiguration().optimizationHints)
    }

    @Test func everyMessageIsOneLine() {
        let errors: [EdgeSAMError] = [
            .missingFile(path: "a"), .notAFile(url: "a"), .cannotStore(folder: "a", reason: "b\nc"),
            .notAModel(path: "a"), .cannotCompile(file: "a", reason: "b\nc"),
            .cannotLoad(file: "a", reason: "b\nc"), .noContract(file: "a"), .badContract(file: "a", .schemaVersion(2)),
            .wrongComponent(file: "a", expected: .encoder, found: .decoder),
            .onlyPart(file: "a", component: .encoder, Contract.Part(number: 1, of: 2)),
            .unsupportedProfile(file: "a", profile: "b", supported: ["c"]),
            .differentModels(encoder: "a", decoder: "b"), .differentFrames(encoder: "a", decoder: "b"),
            .contractBroken(file: "a", detail: "b"),
            .unknownFunction(name: "a", known: ["b"]), .systemTooOld(feature: "a", needs: "b"),
            .picture(.size(width: 0, height: 0)), .pixelFormat(found: "a"), .noPixels(detail: "a"), .prompt(.empty),
            .colourMatrix(found: "a"), .unreadableImage(source: "a", detail: "b\nc"), .elementType(code: 1),
            .incompletePackage(file: "a", missing: "b"),
            .maskPromptNotTaken, .foreignEmbedding(embedding: "a", predictor: "b"),
            .predictionFailed(.decoder, reason: "b\nc"), .badScores(.allNaN(candidates: 4)), .unloaded,
        ]
        for error in errors {
            let text = error.errorDescription ?? ""
            #expect(!text.isEmpty && !text.contains("\n"), "\(error)")
            #expect(error.localizedDescription == text)
        }
    }

    @Test func pixelFormatsAreNamedByTheirLetters() {
        #expect(PixelBuffers.name(of: kCVPixelFormatType_32BGRA) == "BGRA")
        #expect(PixelBuffers.name(of: 0x0000_0020) == "32")
    }
}
