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
        let output = try memory.withUnsafeMutableBytes { bytes in
            try Network.Output(
                MLMultiArray(
                    dataPointer: #require(bytes.baseAddress), shape: [2, 3], dataType: .float16, strides: [32, 1],
                    deallocator: nil))
        }
        #expect(output.shape == [2, 3])
        #expect(output.values == [1, -2, 0.5, 3, 65504, 0.25])
    }

    @Test func outputWithoutStridesIsDense() {
        #expect(Network.Output.strides(reported: [0], shape: [4]) == [1])
        #expect(Network.Output.strides(reported: [0, 0, 0], shape: [2, 3, 4]) == [12, 4, 1])
        #expect(Network.Output.strides(reported: [64, 1], shape: [2, 3]) == [64, 1])
    }

    @Test(arguments: [ElementType.float16, .float32])
    func inputHasTheDeclaredType(type: ElementType) throws {
        let feature = try NetworkInput.tensor([1, 2.5, -3, 0.1], shape: [2, 2], type: type).feature()
        let array = try #require(feature.multiArrayValue)
        #expect(array.dataType == (type == .float16 ? .float16 : .float32))
        #expect(array.shape == [2, 2])
        let tenth: Float = type == .float16 ? 0.099975586 : 0.1  // the half nearest to 0.1
        #expect(try Network.Output(array).values == [1, 2.5, -3, tenth])
    }

    @Test func inputWithTooFewValuesIsRefused() {
        #expect(throws: TensorError.self) { try NetworkInput.tensor([1], shape: [2, 2], type: .float32).feature() }
        #expect(throws: EdgeSAMError.self) { try NetworkInput.picture(rgb: [1, 2, 3], side: 2).feature() }
    }

    @Test func pictureBecomesOpaqueBlueGreenRed() throws {
        let feature = try NetworkInput.picture(rgb: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], side: 2).feature()
        let buffer = try #require(feature.imageBufferValue)
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
            .missingFile(path: "a"), .notAModel(path: "a"), .cannotCompile(file: "a", reason: "b\nc"),
            .cannotLoad(file: "a", reason: "b\nc"), .noContract(file: "a"), .badContract(file: "a", .schemaVersion(2)),
            .wrongComponent(file: "a", expected: .encoder, found: .decoder),
            .onlyPart(file: "a", component: .encoder, Contract.Part(number: 1, of: 2)),
            .unsupportedProfile(file: "a", profile: "b", supported: ["c"]),
            .differentModels(encoder: "a", decoder: "b"), .differentFrames(encoder: "a", decoder: "b"),
            .contractBroken(file: "a", detail: "b"),
            .unknownFunction(name: "a", known: ["b"]), .systemTooOld(feature: "a", needs: "b"),
            .picture(.size(width: 0, height: 0)), .pixelFormat(found: "a"), .noPixels(detail: "a"), .prompt(.empty),
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
