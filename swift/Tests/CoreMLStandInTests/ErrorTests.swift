import FixtureSupport
import Testing

@preconcurrency @testable import CoreML

/// What goes wrong must be an error that says what, and never a process that waits.
@Suite struct ErrorTests {
    @Test func wrongInputsAreNamed() async throws {
        let model = try TestPackages.load("arrays")
        let good = try TestPackages.arrayInputs()
        let lone = try MLDictionaryFeatureProvider(dictionary: ["x": good.array("x"), "H": good.array("h")])
        #expect(await message { _ = try predict(model, lone) } == "input 'h' is missing; given: H, x")
        let shaped = try TestPackages.arrayInputs(x: [1, 3, 5, 4])
        #expect(
            await message { _ = try predict(model, shaped) }
                == "input 'x' has shape (1, 3, 5, 4); expected fp32 of shape (1, 3, 4, 5)")
        var picture: CVPixelBuffer?
        CVPixelBufferCreate(kCFAllocatorDefault, 6, 3, kCVPixelFormatType_32BGRA, nil, &picture)
        let value = MLFeatureValue(pixelBuffer: try #require(picture))
        let typed = try MLDictionaryFeatureProvider(dictionary: ["x": good.array("x"), "h": value])
        #expect(
            await message { _ = try predict(model, typed) }
                == "input 'h' is a image value; expected multiArray")
        let wide = try MLDictionaryFeatureProvider(dictionary: ["image": value])
        let said = await message { _ = try predict(TestPackages.load("picture"), wide) }
        #expect(said == "input 'image' is 6x3 pixels; expected RGB image of 5x3 pixels (width x height)")
        #expect(try predict(model, good).array("product")[0].floatValue == 600)
    }

    @Test func errorsAreCoreMLs() throws {
        do {
            _ = try TestPackages.load("arrays").prediction(from: MLDictionaryFeatureProvider(dictionary: [:]))
            Issue.record("no error")
        } catch {
            #expect((error as? MLModelError)?.code == .featureType)
            #expect((error as NSError).domain == "com.apple.CoreML" && (error as NSError).code == 1)
        }
        #expect(throws: MLModelError.self) { try MLDictionaryFeatureProvider(dictionary: ["x": "text"]) }
        let huge: [NSNumber] = [NSNumber(value: 1 << 40), NSNumber(value: 1 << 40)]
        #expect(throws: MLModelError.self) { try MLMultiArray(shape: huge, dataType: .float32) }
    }

    @Test func packagesMustBeCompiled() async throws {
        let package = try TestPackages.package("arrays")
        let said = await message { _ = try MLModel(contentsOf: package) }
        #expect(said?.contains("only a compiled model (.mlmodelc) can be loaded") == true)
        let missing = await message { _ = try MLModel(contentsOf: URL(filePath: "/nowhere/a.mlmodelc")) }
        #expect(missing == "/nowhere/a.mlmodelc: no such compiled model")
        let foreign = package.deletingLastPathComponent().appending(path: "foreign.mlmodelc")
        try FileManager.default.createDirectory(at: foreign, withIntermediateDirectories: true)
        #expect(await message { _ = try MLModel(contentsOf: foreign) }?.contains("not compiled here") == true)
        let plan = await message {
            _ = try await MLComputePlan.load(contentsOf: package, configuration: MLModelConfiguration())
        }
        #expect(plan?.contains("only a compiled model") == true)
    }

    @Test func unknownFunctionsAndDamagedPackagesAreRefused() async throws {
        let configuration = MLModelConfiguration()
        configuration.functionName = "other"
        let said = await message {
            _ = try MLModel(
                url: TestPackages.compiled("arrays"), configuration: configuration, service: TestPackages.shared)
        }
        #expect(said?.hasSuffix("no function 'other'; it has main") == true)
        let damaged = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).mlpackage")
        try FileManager.default.createDirectory(at: damaged, withIntermediateDirectories: true)
        let request = ServiceRequest(method: "structure", path: damaged.path)
        let reason = await message { _ = try await TestPackages.shared.call(request, answer: StructureAnswer.self) }
        #expect(reason?.contains("not a Core ML package") == true)
    }

    @Test func aKilledProcessLosesItsModelsAndIsStartedAgain() async throws {
        let service = TestPackages.service()
        let model = try TestPackages.load("arrays", service: service)
        let input = try TestPackages.arrayInputs()
        kill(try #require(service.processIdentifier), SIGKILL)
        #expect(await message { _ = try predict(model, input) } == "the Python process ended by signal 9")
        #expect(
            await message { _ = try await model.prediction(from: input) }
                == "the model is lost, load it again: the Python process ended by signal 9")
        let again = try TestPackages.load("arrays", service: service)
        #expect(try predict(again, input).array("product")[0].floatValue == 600)
        #expect(await message { _ = try predict(model, input) }?.contains("load it again") == true)
    }

    @Test func aProcessThatDiesInThePredictionIsAnError() async throws {
        // Reads the start of the request and dies: the rest of it goes to a socket that nobody reads.
        let script = "import os, sys; sys.stderr.write('first\\nlast words\\n'); sys.stdin.buffer.read(4); os._exit(7)"
        let service = TestPackages.service(arguments: ["-c", script])
        let request = ServiceRequest(method: "predict", handle: 1)
        do {
            let payload = Data(count: 8 << 20)
            _ = try await service.call(request, payload: payload, answer: PredictAnswer.self)
            Issue.record("no error")
        } catch {
            #expect(error.localizedDescription == "the Python process ended with status 7: last words")
            #expect((error as? MLModelError)?.failureReason == "first\nlast words\n")
        }
    }

    @Test(arguments: [
        ("b'\\xff\\xff\\xff\\xff'", "sent a header of 4294967295 bytes"),
        ("b'\\x03\\0\\0\\0abc'", "sent a header that is not an answer"),
        ("b'\\x03\\0\\0\\0a'", "ended with status 0"),
    ])
    func garbageIsAnError(bytes: String, expected: String) async throws {
        let script = "import os; os.read(0, 4); os.write(1, \(bytes))"
        let service = TestPackages.service(arguments: ["-c", script])
        let said = await message {
            _ = try await service.call(ServiceRequest(method: "ping"), answer: EmptyAnswer.self)
        }
        #expect(said == "the Python process \(expected)")
    }

    @Test func aPythonThatIsNotThereOrLacksThePackageIsNamed() async throws {
        let ping = ServiceRequest(method: "ping")
        let absent = ModelService(executable: "/nowhere/python")
        let said = await message { _ = try await absent.call(ping, answer: EmptyAnswer.self) }
        #expect(
            said?.hasPrefix("cannot start '/nowhere/python' (No such file or directory); set EDGESAM_PYTHON") == true)
        let empty = TestPackages.service(arguments: ["-m", "edgesam_no_such_module"])
        let reason = await message { _ = try await empty.call(ping, answer: EmptyAnswer.self) }
        #expect(reason?.contains("No module named edgesam_no_such_module") == true)
    }
}

/// The synchronous form; inside an async closure the compiler would choose the other.
private func predict(_ model: MLModel, _ input: any MLFeatureProvider) throws -> any MLFeatureProvider {
    try model.prediction(from: input)
}
