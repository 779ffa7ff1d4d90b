import CoreVideo
import EdgeSAMCore
import FixtureSupport
import Foundation
import Testing

@testable import EdgeSAM

/// The predictor on real packages, against Python's predictor on the same packages.
///
/// One after the other: they share one predictor, and the packages run in one Python process anyway.
@Suite(.serialized) struct PredictorTests {
    let session = Session.shared

    // Asked for are IoU 0.999, scores to 1e-3 and logits to 1e-2.  What is reached, measured on Linux with x86-64: all of
    // it equal bit for bit, in each of the 18 predictions here and the 4 of the next test.
    @Test func everyPromptOnEveryPictureMatchesPython() async throws {
        let exports = try await session.exports()
        let rows = exports.rows[.recommended] ?? []
        #expect(rows.count == 18, "three pictures, six prompts")
        for row in rows { try await compare(row, .recommended) }
    }

    @Test(arguments: [Exports.Pair.tensor, .official])
    func tensorInputMatchesPython(pair: Exports.Pair) async throws {
        let rows = try await session.exports().rows[pair] ?? []
        #expect(rows.count == 2)
        for row in rows { try await compare(row, pair) }
    }

    @Test func embeddingOfThreeMapsMatchesPython() async throws {
        let embedding = try await session.embedding("small", .maps)
        #expect(embedding.maps.map(\.name) == ["image_embeddings", "feats_s0", "feats_s1"])
        #expect(embedding.maps.map(\.shape) == [[1, 32, 64, 64], [1, 4, 256, 256], [1, 8, 128, 128]])
        let rows = try await session.exports().rows[.maps] ?? []
        #expect(rows.count == 12, "two pictures, six prompts")
        for row in rows { try await compare(row, .maps) }
    }

    @Test(arguments: Fixtures.withSAM2 ? [Exports.Pair.edgetam, .sam2] : [.edgetam])
    func aStretchedPortraitInAFamilyOfThreeMapsMatchesPython(pair: Exports.Pair) async throws {
        let embedding = try await session.embedding("portrait", pair)
        #expect(embedding.maps.map(\.name) == ["image_embeddings", "feats_s0", "feats_s1"])
        #expect(embedding.maps.map(\.shape) == [[1, 256, 64, 64], [1, 32, 256, 256], [1, 64, 128, 128]])
        let rows = try await session.exports().rows[pair] ?? []
        #expect(rows.map(\.name) == ["point", "box"])
        for row in rows { try await compare(row, pair) }
    }

    @Test func severalPromptsAtOnceMatchPython() async throws {
        let exports = try await session.exports()
        let predictor = try await session.predictor(.queries)
        #expect(predictor.decoderContract.queries == 3 && predictor.decoderContract.scoresObjects)
        let rows = exports.rows[.queries] ?? []
        #expect(rows.count == 6, "one picture, six prompts")
        let embedding = try await session.embedding("small", .queries)
        let prompts = try rows.map { try exports.prompt($0, .queries) }
        for count in [6, 4, 1] {  // two whole runs; one and a third; a third
            let found = try await predictor.predict(Array(prompts.prefix(count)), on: embedding)
            #expect(found.count == count)
            for (row, candidates) in zip(rows, found) { try check(candidates, of: row, .queries, embedding, exports) }
        }
        try check(try await predictor.predict(prompts[1], on: embedding), of: rows[1], .queries, embedding, exports)
    }

    @Test func mapsThatTheDecoderMissesAreNamed() async throws {
        let own = try await session.embedding("small", .maps)
        let bare = ImageEmbedding(model: own.model, geometry: own.geometry, maps: Array(own.maps.prefix(2)))
        let predictor = try await session.predictor(.maps)
        await #expect(
            throws: EdgeSAMError.contractBroken(
                file: "small_maps_decoder.mlpackage", detail: "input 'feats_s1' is unknown")
        ) { try await predictor.predict(.point(1, 1), on: bare) }
    }

    private func compare(_ row: Exports.Row, _ pair: Exports.Pair) async throws {
        let exports = try await session.exports()
        let predictor = try await session.predictor(pair)
        let embedding = try await session.embedding(row.picture, pair)
        let found = try await predictor.predict(try exports.prompt(row, pair), on: embedding)
        try check(found, of: row, pair, embedding, exports)
    }

    private func check(
        _ found: [MaskCandidate], of row: Exports.Row, _ pair: Exports.Pair, _ embedding: ImageEmbedding,
        _ exports: Exports
    ) throws {
        let expected = try exports.expected(row, pair)
        #expect(found.count == expected.scores.count)
        let logits = found.flatMap(\.logits)
        #expect(logits.count == expected.logits.count)
        let equal = logits == expected.logits
        let largest = equal ? 0 : zip(logits, expected.logits).map { abs($0 - $1) }.max() ?? .infinity
        #expect(largest <= 1e-2, "\(row): logits differ by \(largest)")
        for (candidate, index) in zip(found, expected.scores.indices) {
            #expect(candidate.token == index)
            #expect(candidate.objectScore == row.objectScore, "\(row)")
            #expect(abs(candidate.score - expected.scores[index]) <= 1e-3, "\(row), mask \(index)")
            #expect(candidate.mask.size == embedding.geometry.source)
            let iou = Self.iou(candidate.mask.bits, expected.masks[index])
            #expect(iou >= 0.999, "\(row), mask \(index): IoU \(iou)")
        }
        #expect(found.best?.token == row.best, "\(row)")
    }

    /// 1 for two empty masks.
    private static func iou(_ first: [UInt8], _ second: [UInt8]) -> Double {
        if first == second { return 1 }  // the usual case, and much quicker in a debug build
        var (both, either) = (0, 0)
        for (a, b) in zip(first, second) {
            both += Int(a & b)
            either += Int(a | b)
        }
        return first.count != second.count ? 0 : either == 0 ? 1 : Double(both) / Double(either)
    }

    @Test func pixelBufferWithPaddedRowsIsThePicture() async throws {
        let picture = try await session.picture("landscape")
        let buffer = try testBuffer(picture)
        #expect(CVPixelBufferGetBytesPerRow(buffer) > picture.width * 4, "rows without padding would prove nothing")
        #expect(try RGBImage(buffer) == picture)
        let embedding = try await session.predictor().setImage(buffer)
        let expected = try await session.embedding("landscape")
        #expect(embedding.values == expected.values)
        #expect(embedding.geometry == expected.geometry)
    }

    @Test func videoFrameIsTheImage() async throws {
        // Grey has no colour differences, so that nothing is lost.
        let small = try await session.picture("small")
        let grey = try RGBImage(
            width: 97, height: 97, pixels: (0..<97 * 97).flatMap { [UInt8](repeating: small.pixels[3 * $0], count: 3) })
        let buffer = try testVideoBuffer(grey)
        #expect(try RGBImage(buffer) == grey)
        let predictor = try await session.predictor(.maps)
        let expected = try await predictor.setImage(grey)
        #expect(try await predictor.setImage(buffer).values == expected.values)
        let coloured = try RGBImage(testVideoBuffer(small))
        let errors = zip(coloured.pixels, small.pixels).map { abs(Double($0) - Double($1)) }
        #expect(errors.reduce(0, +) / Double(errors.count) < 12, "noise of up to 48 with a quarter of its colours")
    }

    @Test func turnedBufferIsTheUprightImage() async throws {
        let portrait = try await session.picture("portrait")
        let predictor = try await session.predictor(.maps)
        let upright = try await session.embedding("portrait", .maps)
        // Stored as a camera does it: its right side is up.
        let stored = portrait.oriented(.left)
        let embedding = try await predictor.setImage(try testBuffer(stored), orientation: .right)
        #expect(embedding.geometry == upright.geometry)
        #expect(embedding.values == upright.values)
        for orientation in ImageOrientation.allCases {
            let fast = try FastPreparation.prepare(
                try testBuffer(stored), orientation: orientation, frame: ImageFrame())
            #expect(fast.geometry.source == orientation.applied(to: stored.size))
        }
    }

    @Test func fastPreparationHardlyChangesThePixels() async throws {
        let landscape = try await session.picture("landscape")
        let predictor = try await session.predictor(.maps)
        let exact = await predictor.prepare(landscape)
        let fast = await predictor.prepare(landscape, .fast)
        #expect(fast.geometry == exact.geometry)
        var squares = 0.0
        for (left, right) in zip(fast.pixels, exact.pixels) {
            squares += (Double(left) - Double(right)) * (Double(left) - Double(right))
        }
        let psnr = 10 * log10(255 * 255 * Double(exact.pixels.count) / max(squares, 1))
        #expect(psnr > 35, "PSNR \(psnr) dB")
        let embedding = try await predictor.setImage(try testBuffer(landscape), preparation: .fast)
        #expect(embedding.values == (try await predictor.encode(fast)).values)
    }

    @Test func matrixComesFromTheAttachmentElseFromTheSize() throws {
        let format = kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange
        let small = try PixelBuffers.make(width: 64, height: 48, format: format)
        #expect(try PixelBuffers.matrix(of: small) == .bt601)
        #expect(try PixelBuffers.matrix(of: PixelBuffers.make(width: 1280, height: 720, format: format)) == .bt709)
        #expect(PixelBuffers.range(of: format) == .video)
        for (name, matrix) in [
            (kCVImageBufferYCbCrMatrix_ITU_R_709_2, YCbCrEncoding.Matrix.bt709),
            (kCVImageBufferYCbCrMatrix_ITU_R_2020, .bt2020), (kCVImageBufferYCbCrMatrix_ITU_R_601_4, .bt601),
        ] {
            CVBufferSetAttachment(small, kCVImageBufferYCbCrMatrixKey, name, .shouldPropagate)
            #expect(try PixelBuffers.matrix(of: small) == matrix)
        }
        CVBufferSetAttachment(small, kCVImageBufferYCbCrMatrixKey, "SMPTE_240M_1995" as CFString, .shouldPropagate)
        #expect(throws: EdgeSAMError.colourMatrix(found: "SMPTE_240M_1995")) { try RGBImage(small) }
    }

    @Test func pixelBufferOfAnotherFormatIsRefused() throws {
        var buffer: CVPixelBuffer?
        CVPixelBufferCreate(kCFAllocatorDefault, 8, 8, kCVPixelFormatType_OneComponent8, nil, &buffer)
        let grey = try #require(buffer)
        #expect(throws: EdgeSAMError.pixelFormat(found: "L008")) { try RGBImage(grey) }
    }

    @Test func embeddingIsOfTheContractsShape() async throws {
        let embedding = try await session.embedding("small")
        #expect(embedding.shape == [1, 256, 64, 64])
        #expect(embedding.values.count == 256 * 64 * 64)
        #expect(embedding.model == "edge_sam_3x")
    }

    @Test func slotsComeFromTheContract() async throws {
        let exports = try await session.exports()
        #expect(try await session.predictor().slots == exports.slots)
        #expect(try await session.predictor(.official).slots == nil)
    }

    @Test func embeddingsMayBeAskedInAnyOrderAndAtTheSameTime() async throws {
        let predictor = try await session.predictor()
        let (small, portrait) = (try await session.embedding("small"), try await session.embedding("portrait"))
        let work: [(Prompt, ImageEmbedding)] = [
            (.point(20, 30), small), (.point(400, 800), portrait), (.box(5, 5, 60, 70), small),
            (.box(100, 100, 500, 1000), portrait), (.point(20, 30), small),
        ]
        var alone: [[Float]] = []
        for (prompt, embedding) in work { alone.append(try await predictor.predict(prompt, on: embedding)[0].logits) }
        let together = try await withThrowingTaskGroup(of: (Int, [Float]).self) { group in
            for (index, (prompt, embedding)) in work.enumerated() {
                group.addTask { (index, try await predictor.predict(prompt, on: embedding)[0].logits) }
            }
            return try await group.reduce(into: [Int: [Float]]()) { $0[$1.0] = $1.1 }
        }
        for (index, logits) in alone.enumerated() { #expect(together[index] == logits, "prompt \(index)") }
        #expect(alone[0] == alone[4])
        #expect(alone[0] != alone[1])
    }

    @Test func stagesAddUpToSetImage() async throws {
        let predictor = try await session.predictor()
        let prepared = await predictor.prepare(try await session.picture("small"))
        let embedding = try await predictor.encode(prepared)
        #expect(embedding.values == (try await session.embedding("small")).values)
    }

    @Test func warmUpRunsBothModels() async throws {
        try await session.predictor().warmUp()
    }

    @Test func severalPromptsAreAnsweredInTheirOrder() async throws {
        let (predictor, embedding) = (try await session.predictor(.maps), try await session.embedding("small", .maps))
        let prompts: [Prompt] = [.point(20, 30), .box(5, 5, 60, 70), .point(20, 30)]
        let found = try await predictor.predict(prompts, on: embedding)
        for (prompt, masks) in zip(prompts, found) {
            let alone = try await predictor.predict(prompt, on: embedding)
            #expect(masks.map(\.logits) == alone.map(\.logits))
        }
        #expect(try await predictor.predict([], on: embedding).isEmpty)
        await #expect(throws: EdgeSAMError.prompt(.empty)) {
            try await predictor.predict([.point(1, 1), Prompt()], on: embedding)
        }
    }

    @Test func embeddingsKeepTheirValuesWhileMemoryIsUsedAgain() async throws {
        let predictor = try await session.predictor(.maps)
        let first = try await predictor.setImage(try await session.picture("small"))
        let before = first.values
        for _ in 0..<3 { _ = try await predictor.setImage(try await session.picture("portrait")) }
        #expect(first.values == before)
        #expect(before == (try await session.embedding("small", .maps)).values)
        #expect(first.maps[0].tensor.array.dataType == .float16, "as the encoder wrote it")
        #expect(first.maps[0].tensor.array.pixelBuffer != nil, "in a surface of ours")
    }

    // MARK: Prompts that cannot be answered

    @Test func tooManyPointsForTheSlots() async throws {
        let (predictor, embedding) = (try await session.predictor(), try await session.embedding("small"))
        let points = (0..<8).map { PromptPoint(x: Double($0), y: 3) }
        await #expect(
            throws: EdgeSAMError.prompt(.tooManySlots(needed: 9, slots: 8, points: 8, hasBox: false))
        ) {
            try await predictor.predict(Prompt(points: points), on: embedding)
        }
        // One point fewer leaves room for the padding point.
        _ = try await predictor.predict(Prompt(points: Array(points.dropLast())), on: embedding)
    }

    @Test func tooManyPointsForAFreeNumber() async throws {
        let embedding = try await session.embedding("small", .official)
        let predictor = try await session.predictor(.official)
        let points = (0..<16).map { PromptPoint(x: Double($0), y: 3) }
        await #expect(
            throws: EdgeSAMError.prompt(.tooManySlots(needed: 17, slots: 16, points: 16, hasBox: false))
        ) {
            try await predictor.predict(Prompt(points: points), on: embedding)
        }
    }

    @Test func pointOutsideThePicture() async throws {
        let (predictor, embedding) = (try await session.predictor(), try await session.embedding("small"))
        let outside = PromptError.pointOutside(PromptPoint(x: 97, y: 3), picture: PixelSize(width: 97, height: 97))
        await #expect(throws: EdgeSAMError.prompt(outside)) {
            try await predictor.predict(.point(97, 3), on: embedding)
        }
    }

    @Test func maskPromptForADecoderWithoutOne() async throws {
        let predictor = try await session.predictor(.official)
        let embedding = try await session.embedding("small", .official)
        await #expect(throws: EdgeSAMError.maskPromptNotTaken) {
            try await predictor.predict(.mask([Float](repeating: 0, count: 65536)), on: embedding)
        }
    }

    @Test func embeddingOfAnotherModel() async throws {
        let own = try await session.embedding("small")
        let foreign = ImageEmbedding(
            model: "mobile_sam", geometry: own.geometry, maps: own.maps)
        let predictor = try await session.predictor()
        await #expect(throws: EdgeSAMError.foreignEmbedding(embedding: "mobile_sam", predictor: "edge_sam_3x")) {
            try await predictor.predict(.point(1, 1), on: foreign)
        }
    }

    // MARK: Life of the models

    @Test func cancelledTaskStops() async throws {
        let (predictor, embedding) = (try await session.predictor(), try await session.embedding("small"))
        let picture = try await session.picture("small")
        let prediction = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await predictor.predict(.point(1, 1), on: embedding).count
        }
        await #expect(throws: CancellationError.self) { try await prediction.value }
        let encoding = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await predictor.setImage(picture).shape
        }
        await #expect(throws: CancellationError.self) { try await encoding.value }
    }

    @Test func cancellingAtAnyTimeLeavesThePredictorUsable() async throws {
        let predictor = try await session.predictor(.maps)
        let small = try await session.picture("small")
        let expected = try await predictor.predict(.point(20, 30), on: session.embedding("small", .maps))
        for milliseconds in [0, 1, 5, 20, 80, 300] {
            let task = Task {
                let embedding = try await predictor.setImage(small)
                return try await predictor.predict([.point(20, 30), .point(20, 30)], on: embedding)
            }
            try await Task.sleep(for: .milliseconds(milliseconds))
            task.cancel()
            switch await task.result {
            case .success(let found): #expect(found.allSatisfy { $0.map(\.logits) == expected.map(\.logits) })
            case .failure(let error): #expect(error is CancellationError, "\(error)")
            }
        }
        let after = try await predictor.predict(.point(20, 30), on: predictor.setImage(small))
        #expect(after.map(\.logits) == expected.map(\.logits))
    }

    @Test func loadsAtTheSameTimeAreOne() async throws {
        let exports = try await session.exports()
        let predictor = try await EdgeSAMPredictor(
            encoder: exports.encoder(.maps), decoder: exports.decoder(.maps), options: exports.options())
        await predictor.unload()
        let counted = await predictor.loadCount
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<5 { group.addTask { try await predictor.load() } }
            try await group.waitForAll()
        }
        #expect(await predictor.loadCount == counted + 1)
        // A caller that gives up leaves the predictor usable.
        await predictor.unload()
        let impatient = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await predictor.load()
        }
        await #expect(throws: CancellationError.self) { try await impatient.value }
        try await predictor.load()
        let embedding = try await predictor.setImage(try await session.picture("small"))
        #expect(try await predictor.predict(.point(1, 1), on: embedding).isEmpty == false)
    }

    @Test func unloadedModelsRefuseUntilLoadedAgain() async throws {
        let exports = try await session.exports()
        let embedding = try await session.embedding("small", .tensor)
        // Several prompt slots in one decoder: this function has two.
        var options = exports.options()
        options.decoderFunction = "points_2"
        let predictor = try await EdgeSAMPredictor(
            encoder: exports.encoder(.tensor), decoder: exports.decoder(.tensor), options: options)
        #expect(predictor.slots == 2)
        let before = try await predictor.predict(.point(48, 30), on: embedding)
        await predictor.unload()
        await #expect(throws: EdgeSAMError.unloaded) { try await predictor.predict(.point(48, 30), on: embedding) }
        await #expect(throws: EdgeSAMError.unloaded) { try await predictor.setImage(session.picture("small")) }
        #expect(before[0].mask.size == PixelSize(width: 97, height: 97))
        try await predictor.load()
        let after = try await predictor.predict(.point(48, 30), on: embedding)
        #expect(after.map(\.logits) == before.map(\.logits))
    }
}
