import EdgeSAMBenchCore
import EdgeSAMCore
import FixtureSupport
import Foundation
import Testing

@testable import EdgeSAMBenchRuntime

@Suite(.serialized) struct RuntimeTests {
    @Test func aRunMeasuresRealPackages() async throws {
        let tiny = try TinyRun {
            $0.schedule.sustainedDurationS = 0.2
            $0.workload.concurrency = 2
            $0.collect.computePlan = true
            $0.collect.parityOutputs = true
            $0.collect.parityInputs = [
                ParityInput(stage: .encoder, feed: ["image": "inputs/image.npy"], outputsDir: "e"),
                ParityInput(
                    stage: .decoder,
                    feed: [
                        "image_embeddings": "inputs/embedding.npy", "point_coords": "inputs/coords.npy",
                        "point_labels": "inputs/labels.npy",
                    ], outputsDir: "d"),
            ]
        }
        let session = BenchSession(documents: tiny.documents, compiledModels: tiny.compiledModels)
        #expect(try session.pendingRun() == TinyRun.runID)
        let result = try await session.run(TinyRun.runID)
        let measured = try #require(result.cases.first)
        #expect(measured.error == nil)
        #expect(measured.outcome == .passed)
        #expect((measured.stages["encoder"]?.samplesNs.count ?? 0) >= 2)
        #expect(measured.stages["decoder"]?.samplesNs.allSatisfy { $0 > 0 } == true)
        #expect(measured.load.encoder?.repeatsMs.count == 1)
        #expect(measured.load.freshlyInstalled)
        #expect((measured.sustained?.frames ?? 0) >= 2)
        #expect(measured.backingsHonoured == PerRole(encoder: true, decoder: true))
        #expect((measured.memory?.footprintPeak ?? 0) > 1 << 20)
        #if os(Linux)
            #expect(measured.runtime == "coreml_stand_in")
            #expect(result.device.productType == "linux-host")
            // Only Core ML knows where operations run.
            #expect(measured.computePlan?.encoder?.preferred.unknown == measured.computePlan?.encoder?.opsTotal)
            #expect(measured.computePlan?.encoder?.notAneOps.isEmpty == true)
        #endif
        #expect((measured.computePlan?.encoder?.opsTotal ?? 0) >= 2)
        #expect(result.models.first?.inputs == [TensorDescription(name: "image", shape: [1, 2, 8, 8], dtype: "fp16")])

        let files = try #require(measured.parityOutputs).reduce(into: [:]) { $0[$1.name] = $1.file }
        // By hand: the mean of a constant block is the constant, plus 1.
        let embedding = try tiny.array(try #require(files["image_embeddings"]))
        #expect(embedding.shape == [1, 2, 2, 2])
        #expect(embedding.floats() == [4, 4, 4, 4, 0, 0, 0, 0])
        // By hand: the mean of eight coordinates, one of them 8, is 1; two of four labels are 1.
        #expect(try tiny.array(try #require(files["masks"])).floats() == [1, 2, 3, 4, 5, 6, 7, 8])
        #expect(try tiny.array(try #require(files["scores"])).floats() == [0.5])
        #expect(try session.pendingRun() == nil)
    }

    @Test func aSecondRunFindsTheCompiledModels() async throws {
        let tiny = try TinyRun()
        let session = BenchSession(documents: tiny.documents, compiledModels: tiny.compiledModels)
        let first = try await session.run(TinyRun.runID)
        try FileManager.default.removeItem(at: tiny.folders.output)
        try tiny.push()
        let second = try await session.run(TinyRun.runID)
        #expect(first.cases[0].compileMs.encoder != nil)
        #expect(second.cases[0].compileMs == PerRole())
        #expect(!second.cases[0].load.freshlyInstalled)
    }

    @Test func pixelBuffersCarryTheSameValues() async throws {
        let tiny = try TinyRun {
            $0.workload.io = .pixelBuffer
            $0.workload.input = .file
            $0.workload.stages = [.encoder]
            $0.collect.parityInputs = [
                ParityInput(stage: .encoder, feed: ["image": "inputs/image.npy"], outputsDir: "e")
            ]
        }
        let measured = try await BenchSession(documents: tiny.documents, compiledModels: tiny.compiledModels)
            .run(TinyRun.runID).cases[0]
        #expect(measured.error == nil)
        #expect(measured.io == .pixelBuffer)
        #expect(measured.backingsHonoured?.encoder == true)
    }

    @Test func morePointsThanSlotsFailTheCaseOnly() async throws {
        let tiny = try TinyRun { $0.workload.nPoints = [5, 4] }
        let cases = try await BenchSession(documents: tiny.documents, compiledModels: tiny.compiledModels)
            .run(TinyRun.runID).cases
        #expect(cases.map(\.outcome) == [.failed, .passed])
        #expect(cases[0].error?.message == "5 points do not fit the model's 4 slots")
        #expect(cases[0].stages.keys.sorted() == ["encoder"])
    }

    @Test func aPictureOfAnotherShapeIsRefused() async throws {
        let tiny = try TinyRun {
            $0.collect.parityOutputs = true
            $0.collect.parityInputs = [
                ParityInput(stage: .encoder, feed: ["image": "inputs/embedding.npy"], outputsDir: "e")
            ]
        }
        let measured = try await BenchSession(documents: tiny.documents, compiledModels: tiny.compiledModels)
            .run(TinyRun.runID).cases[0]
        #expect(measured.outcome == .failed)
        #expect(measured.error?.code == "input_shape")
        #expect(measured.stages.count == 2)
    }

    @Test func endToEndGoesThroughThePredictor() async throws {
        let exports = try Fixtures.exports()
        let folder = FileManager.default.temporaryDirectory.appending(path: "bench-e2e-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let runner = try CoreMLModelRunner(compiledModels: folder)
        var models: [ModelRole: ModelFile] = [:]
        for role in ModelRole.allCases {
            let url = exports.appending(path: "edge_sam_3x_\(role.rawValue).mlpackage")
            let model = ModelFile(id: role.rawValue, role: role, url: url, sha256: role.rawValue, bytes: 0)
            #expect(try await runner.compile(model))
            models[role] = model
        }
        let plan = InputPlan(
            memory: .multiArray, outputBackings: false, nPoints: [1], workers: 1, feed: [:], models: models,
            units: UnitsPerRole(encoder: .cpuOnly, decoder: .cpuOnly), hints: Hints())
        try await runner.prepare(.endToEnd, plan)
        #expect(try await runner.predict(.endToEnd, nPoints: 1).durationNs > 1_000_000)
        await #expect(throws: BenchFailure.self) { try await runner.predict(.encoder, nPoints: 1) }
    }

    @Test func randomValuesAreReproducibleAndExactInHalfPrecision() {
        var (one, same, other) = (RandomValues(name: "a"), RandomValues(name: "a"), RandomValues(name: "b"))
        let values = one.floats(1001)
        #expect(values == same.floats(1001))
        #expect(values != other.floats(1001))
        #expect(values.allSatisfy { $0 >= -1 && $0 < 1 && HalfBits.float(HalfBits.bits($0)) == $0 })
        #expect(Set(values).count > 500)
    }

    @Test func theProbeReadsThisProcess() throws {
        let reading = SystemProbe().read()
        let footprint = try #require(reading.footprint)
        #expect(footprint > 1 << 20)
        #expect(try #require(reading.footprintHighWater) >= footprint / 2)
    }
}
