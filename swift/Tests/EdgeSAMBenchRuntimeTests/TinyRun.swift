import EdgeSAMBenchCore
import EdgeSAMCore
import FixtureSupport
import Foundation

/// A documents folder with a pushed run of two tiny ML Programs, small enough for the stand-in.
final class TinyRun: Sendable {
    static let runID = "6f1d2c3b-4a59-4687-9c10-1234567890ab"
    static let nonce = "00112233445566778899aabbccddeeff"

    let documents: URL
    var compiledModels: URL { documents.appending(path: "compiled") }
    var folders: RunFolders { RunFolders(documents: documents, runID: Self.runID) }

    init(_ change: (inout BenchRequest) -> Void = { _ in }) throws {
        documents = FileManager.default.temporaryDirectory.appending(path: "bench-run-\(UUID().uuidString)")
        try push(change)
    }

    deinit { try? FileManager.default.removeItem(at: documents) }

    /// Writes models, inputs and the request after `change`; a run that is done has removed what was pushed.
    func push(_ change: (inout BenchRequest) -> Void = { _ in }) throws {
        let files = FileManager.default
        try? files.removeItem(at: folders.input)
        for folder in ["models", "inputs"] {
            try files.createDirectory(at: folders.input.appending(path: folder), withIntermediateDirectories: true)
        }
        for name in ["encoder", "decoder"] {
            try files.copyItem(
                at: try Self.models.get().appending(path: "\(name).mlpackage"),
                to: folders.input.appending(path: "models/\(name).mlpackage"))
        }
        try write("image", shape: [1, 2, 8, 8], (0..<128).map { $0 < 64 ? 3 : -1 })
        try write("embedding", shape: [1, 2, 2, 2], [0, 1, 2, 3, 4, 5, 6, 7])
        try write("coords", shape: [1, 4, 2], [8, 0, 0, 0, 0, 0, 0, 0])
        try write("labels", shape: [1, 4], [1, 1, 0, 0])
        let golden = try Data(contentsOf: Fixtures.goldens.appending(path: "bench/request.json"))
        var request = try RequestReader.request(from: golden)
        for (index, name) in ["encoder", "decoder"].enumerated() {
            request.models[index].relativePath = "models/\(name).mlpackage"
            request.models[index].sha256Tree = try TreeDigest.of(
                folders.input.appending(path: "models/\(name).mlpackage"), in: DiskFileStore()
            ).sha256
        }
        request.matrix = [MatrixRow(computeUnits: UnitsPerRole(encoder: .cpuOnly, decoder: .all), hints: Hints())]
        request.schedule = Schedule(
            warmupIterations: 1, minIterations: 2, minDurationS: 0, maxDurationS: 30, sustainedDurationS: 0,
            loadRepeats: 1, cooldownS: 0, startWhenThermalAtMost: .fair, startThermalTimeoutS: 1)
        request.workload.stages = [.encoder, .decoder]
        request.workload.nPoints = [1]
        request.workload.varyPoints = false
        request.collect = Collect(computePlan: false, timeseriesHz: 10, parityOutputs: false, parityInputs: [])
        change(&request)
        try BenchJSON.document(request).write(to: folders.request)
    }

    func status() throws -> BenchStatus {
        try BenchJSON.decode(BenchStatus.self, from: Data(contentsOf: folders.status))
    }

    func array(_ file: String) throws -> NPYArray {
        try NPYArray(file: Data(contentsOf: folders.output.appending(path: file)))
    }

    private func write(_ name: String, shape: [Int], _ values: [Float]) throws {
        try NPYArray(shape: shape, floats: values).file()
            .write(to: folders.input.appending(path: "inputs/\(name).npy"))
    }

    /// The packages, converted once for all tests.  Also tells the stand-in which Python to start.
    private static let models: Result<URL, any Error> = Result {
        setenv("EDGESAM_PYTHON", Fixtures.python.path, 0)
        let folder = FileManager.default.temporaryDirectory.appending(path: "bench-models-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = Fixtures.python
        process.arguments = ["-c", script, folder.path]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Fixtures.Failure(description: "the tiny models cannot be converted; run `make setup`")
        }
        return folder
    }

    /// The encoder adds 1 and averages blocks of 4x4; the decoder adds the mean coordinate and averages the labels.
    private static let script = """
        import sys
        import coremltools as ct
        import numpy as np
        from coremltools.converters.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        def spec(*shape):
            return mb.TensorSpec(shape, types.fp16)

        @mb.program(input_specs=[spec(1, 2, 8, 8)], opset_version=ct.target.iOS17)
        def encoder(image):
            moved = mb.add(x=image, y=np.float16(1))
            return mb.avg_pool(x=moved, kernel_sizes=[4, 4], strides=[4, 4], pad_type="valid", name="image_embeddings")

        @mb.program(input_specs=[spec(1, 2, 2, 2), spec(1, 4, 2), spec(1, 4)], opset_version=ct.target.iOS17)
        def decoder(image_embeddings, point_coords, point_labels):
            mean = mb.reduce_mean(x=point_coords, axes=[0, 1, 2], keep_dims=False)
            scores = mb.reduce_mean(x=point_labels, axes=[1], keep_dims=True, name="scores")
            return mb.add(x=image_embeddings, y=mean, name="masks"), scores

        for name, program in (("encoder", encoder), ("decoder", decoder)):
            made = ct.convert(
                program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17, skip_model_load=True
            )
            made.save(f"{sys.argv[1]}/{name}.mlpackage")
        """
}
