import FixtureSupport

@preconcurrency @testable import CoreML

/// Tiny packages, converted once by coremltools, and what the tests do with them again and again.
enum TestPackages {
    /// `arrays`: x fp32 (1, 3, 4, 5) -> scaled = 2x + 1; h fp16 (2, 3) -> product = h * 100 summed over a row, (2, 1).
    /// `picture`: RGB 5 x 3 -> pixels (1, 3, 3, 5), the numbers 0 to 255.  `negative`: RGB 5 x 3 -> RGB, 255 - x.
    static let folder: Result<URL, any Error> = Result {
        let folder = FileManager.default.temporaryDirectory.appending(path: "stand-in-tests-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let python = Process()
        python.executableURL = Fixtures.python
        python.arguments = ["-c", script, folder.path]
        let errors = folder.appending(path: "errors.txt")
        _ = FileManager.default.createFile(atPath: errors.path, contents: nil)
        python.standardError = try FileHandle(forWritingTo: errors)
        python.standardOutput = FileHandle.nullDevice
        try python.run()
        python.waitUntilExit()
        guard python.terminationStatus == 0 else {
            throw Failure(message: (try? String(contentsOf: errors, encoding: .utf8)) ?? "no reason")
        }
        return folder
    }

    struct Failure: Error {
        let message: String
    }

    static func package(_ name: String) throws -> URL {
        try folder.get().appending(path: "\(name).mlpackage")
    }

    static func compiled(_ name: String) throws -> URL {
        try CompiledModel.make(from: package(name))
    }

    /// Loads from a process of its own, so that a test can end it without harming others.
    static func load(
        _ name: String, units: MLComputeUnits = .cpuOnly, service: ModelService? = nil
    ) throws -> MLModel {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        return try MLModel(url: compiled(name), configuration: configuration, service: service ?? shared)
    }

    /// One process for all tests that end none.
    static let shared = service()

    static func service(arguments: [String] = ["-m", "edgesam_export.mil.coreml_service"]) -> ModelService {
        ModelService(executable: Fixtures.python.path, arguments: arguments)
    }

    /// Inputs of `arrays`: x = 0, 1, 2 ... and h = 1, 2, 3 ...
    static func arrayInputs(x shape: [NSNumber] = [1, 3, 4, 5]) throws -> MLDictionaryFeatureProvider {
        let x = try MLMultiArray(shape: shape, dataType: .float32)
        for index in 0..<x.count { x[index] = NSNumber(value: index) }
        let h = try MLMultiArray(shape: [2, 3], dataType: .float16)
        for index in 0..<6 { h[index] = NSNumber(value: index + 1) }
        return try MLDictionaryFeatureProvider(dictionary: ["x": x, "h": h])
    }

    private static let script = """
        import sys
        import coremltools as ct
        import numpy as np
        from coremltools.converters.mil.mil import Builder as mb
        from coremltools.converters.mil.mil import types

        def save(program, name, picture=False, **options):
            model = ct.convert(program, convert_to="mlprogram", compute_precision=ct.precision.FLOAT32,
                               minimum_deployment_target=ct.target.iOS16, **options)
            if picture:  # the converter makes pictures of outputs for programs of other origins only
                spec = model.get_spec()
                image = spec.description.output[0].type.imageType
                image.width, image.height, image.colorSpace = 5, 3, image.RGB
                model = ct.models.MLModel(spec, weights_dir=model.weights_dir)
            model.author, model.license, model.version = "A. Uthor", "MIT", "1.2"
            model.short_description = "a test"
            model.user_defined_metadata["org.example.key"] = "value"
            model.save(f"{sys.argv[1]}/{name}.mlpackage")

        @mb.program(input_specs=[mb.TensorSpec((1, 3, 4, 5)), mb.TensorSpec((2, 3), dtype=types.fp16)],
                    opset_version=ct.target.iOS16)
        def arrays(x, h):
            scaled = mb.add(x=mb.mul(x=x, y=np.float32(2)), y=np.float32(1), name="scaled")
            product = mb.matmul(x=h, y=np.full((3, 1), 100, np.float16), name="product")
            return scaled, product

        @mb.program(input_specs=[mb.TensorSpec((1, 3, 3, 5))], opset_version=ct.target.iOS16)
        def picture(image):
            return mb.add(x=image, y=np.float32(0), name="pixels")

        @mb.program(input_specs=[mb.TensorSpec((1, 3, 3, 5))], opset_version=ct.target.iOS16)
        def negative(image):
            return mb.sub(x=np.float32(255), y=image, name="inverted")

        image = ct.ImageType(name="image", shape=(1, 3, 3, 5), color_layout=ct.colorlayout.RGB)
        save(arrays, "arrays")
        save(picture, "picture", inputs=[image])
        save(negative, "negative", picture=True, inputs=[image])
        """
}

extension MLFeatureProvider {
    func array(_ name: String) throws -> MLMultiArray {
        guard let array = featureValue(for: name)?.multiArrayValue else {
            throw TestPackages.Failure(message: "no array '\(name)'")
        }
        return array
    }
}

/// The message of the error that `body` throws, or nil.
func message(_ body: () async throws -> Void) async -> String? {
    do {
        try await body()
        return nil
    } catch {
        return error.localizedDescription
    }
}
