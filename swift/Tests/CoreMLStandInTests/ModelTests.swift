import Testing

@preconcurrency @testable import CoreML

/// Loading and predicting, on real packages.  Expected numbers are worked out by hand.
@Suite struct ModelTests {
    @Test func describesInputsOutputsAndMetadata() throws {
        let description = try TestPackages.load("arrays").modelDescription
        let x = try #require(description.inputDescriptionsByName["x"])
        #expect(x.type == .multiArray && x.name == "x" && !x.isOptional && x.imageConstraint == nil)
        #expect(x.multiArrayConstraint?.shape == [1, 3, 4, 5] && x.multiArrayConstraint?.dataType == .float32)
        #expect(description.inputDescriptionsByName["h"]?.multiArrayConstraint?.dataType == .float16)
        #expect(Set(description.outputDescriptionsByName.keys) == ["scaled", "product"])
        #expect(description.outputDescriptionsByName["product"]?.multiArrayConstraint?.dataType == .float16)
        #expect(description.metadata[.author] as? String == "A. Uthor")
        #expect(description.metadata[.license] as? String == "MIT")
        #expect(description.metadata[.versionString] as? String == "1.2")
        #expect(description.metadata[.description] as? String == "a test")
        let own = try #require(description.metadata[.creatorDefinedKey] as? [String: String])
        #expect(own["org.example.key"] == "value" && own["author"] == nil)
    }

    @Test func describesPictures() throws {
        let description = try TestPackages.load("negative").modelDescription
        for feature in [description.inputDescriptionsByName["image"], description.outputDescriptionsByName["inverted"]]
        {
            let feature = try #require(feature)
            #expect(feature.type == .image && feature.multiArrayConstraint == nil)
            #expect(feature.imageConstraint?.pixelsWide == 5 && feature.imageConstraint?.pixelsHigh == 3)
            #expect(feature.imageConstraint?.pixelFormatType == kCVPixelFormatType_32BGRA)
        }
    }

    @Test func predictsWithBothPrecisionsAndPadsRows() throws {
        let model = try TestPackages.load("arrays")
        let outputs = try model.prediction(from: TestPackages.arrayInputs())
        let scaled = try outputs.array("scaled")
        #expect(scaled.shape == [1, 3, 4, 5] && scaled.dataType == .float32)
        #expect(scaled.strides == [192, 64, 16, 1])  // 5 floats in rows of 64 bytes
        for index in 0..<60 { #expect(scaled[index].intValue == 2 * index + 1) }
        #expect(scaled[[0, 2, 3, 4]].intValue == 119)
        scaled.withUnsafeBytes { bytes in
            let floats = bytes.bindMemory(to: Float.self)
            #expect(floats.count == 192 && floats[16] == 11 && floats[5].isNaN)
        }
        let product = try outputs.array("product")
        #expect(product.dataType == .float16 && product.shape == [2, 1] && product.strides == [32, 1])
        #expect(product[0].floatValue == 600 && product[1].floatValue == 1500)
    }

    @Test func readsInputsByTheirStrides() throws {
        let x = MLMultiArray(shape: [1, 3, 4, 5], dataType: .float32, strides: [1, 1, 3, 12])  // the axes reversed
        for index in 0..<60 { x[index] = NSNumber(value: index) }
        let h = MLMultiArray(shape: [2, 3], dataType: .float16, strides: [8, 1])
        for index in 0..<6 { h[index] = NSNumber(value: index + 1) }
        let input = try MLDictionaryFeatureProvider(dictionary: ["x": x, "h": h])
        let outputs = try TestPackages.load("arrays").prediction(from: input)
        let scaled = try outputs.array("scaled")
        for index in 0..<60 { #expect(scaled[index].intValue == 2 * index + 1) }
        #expect(try outputs.array("product")[1].floatValue == 1500)
    }

    @Test func neuralEngineIsEstimatedPessimistically() throws {
        let h = try MLMultiArray(shape: [2, 3], dataType: .float16)
        for (index, value) in [200, 200, 0, 1, 1, 1].enumerated() { h[index] = NSNumber(value: value) }
        let x = try TestPackages.arrayInputs().array("x")
        let input = try MLDictionaryFeatureProvider(dictionary: ["x": x, "h": h])
        let typed = try TestPackages.load("arrays", units: .all).prediction(from: input).array("product")
        #expect(typed[0].floatValue == 40000 && typed[1].floatValue == 300)
        let engine = try TestPackages.load("arrays", units: .cpuAndNeuralEngine).prediction(from: input)
        #expect(try engine.array("product")[0].floatValue == .infinity)
        #expect(Numerics.name(for: .all, environment: ["EDGESAM_COREML_NUMERICS": "fp32"]) == "fp32")
        #expect(Numerics.name(for: .cpuAndGPU, environment: [:]) == "fp16")
    }

    @Test(arguments: [kCVPixelFormatType_32BGRA, kCVPixelFormatType_32ARGB])
    func readsPicturesByTheirStrides(format: OSType) throws {
        let places = format == kCVPixelFormatType_32BGRA ? [2, 1, 0] : [1, 2, 3]  // where red, green and blue are
        let picture = try makePicture(format: format) { x, y, channel in
            UInt8(100 * channel + 10 * y + x)
        } places: {
            places[$0]
        }
        let input = try MLDictionaryFeatureProvider(dictionary: ["image": MLFeatureValue(pixelBuffer: picture)])
        let pixels = try TestPackages.load("picture").prediction(from: input).array("pixels")
        for channel in 0..<3 {
            for y in 0..<3 {
                for x in 0..<5 {
                    let index = [0, channel, y, x].map { NSNumber(value: $0) }
                    #expect(pixels[index].intValue == 100 * channel + 10 * y + x)
                }
            }
        }
    }

    @Test func returnsPictures() throws {
        let picture = try makePicture { x, y, channel in
            UInt8(100 * channel + 10 * y + x)
        } places: {
            2 - $0
        }
        let input = try MLDictionaryFeatureProvider(dictionary: ["image": MLFeatureValue(pixelBuffer: picture)])
        let outputs = try TestPackages.load("negative").prediction(from: input)
        let inverted = try #require(outputs.featureValue(for: "inverted")?.imageBufferValue)
        let address = try #require(CVPixelBufferGetBaseAddress(inverted)).assumingMemoryBound(to: UInt8.self)
        let pixel = address + CVPixelBufferGetBytesPerRow(inverted) * 2 + 4 * 4
        let expected: [UInt8] = [31, 131, 231, 255]  // 255 less 224, 124 and 24
        #expect((0..<4).map { pixel[$0] } == expected)
    }

    @Test func usesOutputBackingsThatFit() throws {
        let model = try TestPackages.load("arrays")
        let dense = try MLMultiArray(shape: [1, 3, 4, 5], dataType: .float32)
        let options = MLPredictionOptions()
        options.outputBackings = ["scaled": dense]
        let outputs = try model.prediction(from: TestPackages.arrayInputs(), options: options)
        #expect(try outputs.array("scaled") === dense)
        dense.withUnsafeBytes { #expect($0.bindMemory(to: Float.self)[59] == 119) }
        let transposed = MLMultiArray(shape: [1, 3, 4, 5], dataType: .float32, strides: [1, 1, 3, 12])
        let wrongType = try MLMultiArray(shape: [2, 1], dataType: .float32)
        options.outputBackings = ["scaled": transposed, "product": wrongType]
        let others = try model.prediction(from: TestPackages.arrayInputs(), options: options)
        #expect(try others.array("scaled") !== transposed)
        #expect(try others.array("product") !== wrongType)
        #expect(try others.array("scaled")[59].intValue == 119)
    }

    @Test func halfPrecisionPictureBacksAnOutput() throws {
        var made: CVPixelBuffer?
        CVPixelBufferCreate(kCFAllocatorDefault, 1, 2, kCVPixelFormatType_OneComponent16Half, nil, &made)
        let backing = MLMultiArray(pixelBuffer: try #require(made), shape: [2, 1])
        let options = MLPredictionOptions()
        options.outputBackings = ["product": backing]
        let outputs = try TestPackages.load("arrays").prediction(from: TestPackages.arrayInputs(), options: options)
        #expect(try outputs.array("product") === backing)
        #expect(backing.strides == [32, 1] && backing[1].floatValue == 1500)
    }

    @Test func predictsAsynchronouslyFromAnActorAndManyTasks() async throws {
        let predictor = try Predictor(model: TestPackages.load("arrays"))
        #expect(try await predictor.last() == 119)
        let results = try await withThrowingTaskGroup(of: (Int, Float).self) { group in
            for task in 0..<8 {
                group.addTask {
                    let model = try TestPackages.load("arrays")
                    let h = try MLMultiArray(shape: [2, 3], dataType: .float16)
                    for index in 0..<6 { h[index] = NSNumber(value: task) }
                    let x = try MLMultiArray(shape: [1, 3, 4, 5], dataType: .float32)
                    let input = try MLDictionaryFeatureProvider(dictionary: ["x": x, "h": h])
                    return (task, try await model.prediction(from: input).array("product")[0].floatValue)
                }
            }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        for task in 0..<8 { #expect(results[task] == Float(300 * task)) }
    }

    @Test func cancelledTasksDoNotPredict() async throws {
        let predictor = try Predictor(model: TestPackages.load("arrays"))
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await predictor.last()
        }
        await #expect { try await task.value } throws: { ($0 as? MLModelError)?.code == .predictionCancelled }
    }

    @Test func structureNamesOperations() async throws {
        let answer = try await TestPackages.shared.call(
            ServiceRequest(method: "structure", path: TestPackages.package("arrays").path),
            answer: StructureAnswer.self)
        guard case .program(let program) = MLModelStructure(answer.answer) else {
            Issue.record("not a program")
            return
        }
        let main = try #require(program.functions["main"])
        #expect(Set(main.inputs.map(\.name)) == ["x", "h"])
        #expect(main.block.operations.map(\.operatorName).filter { $0 != "const" } == ["mul", "add", "matmul"])
        #expect(main.block.operations.last?.outputs.map(\.name) == ["product"])
        #expect(Set(main.block.outputNames) == ["scaled", "product"])
    }

    @Test func unloadsModelsThatNobodyHolds() throws {
        let service = TestPackages.service()
        var model: MLModel? = try TestPackages.load("arrays", service: service)
        #expect(model != nil)
        let first = ServiceRequest(method: "unload", handle: 1)
        model = nil
        #expect { try service.call(first, answer: EmptyAnswer.self) } throws: {
            $0.localizedDescription == "no loaded model 1"
        }
    }

    private func makePicture(
        format: OSType = kCVPixelFormatType_32BGRA, value: (Int, Int, Int) -> UInt8, places: (Int) -> Int
    ) throws -> CVPixelBuffer {
        var made: CVPixelBuffer?
        #expect(CVPixelBufferCreate(kCFAllocatorDefault, 5, 3, format, nil, &made) == kCVReturnSuccess)
        let picture = try #require(made)
        #expect(CVPixelBufferGetBytesPerRow(picture) == 64)
        let address = try #require(CVPixelBufferGetBaseAddress(picture)).assumingMemoryBound(to: UInt8.self)
        for y in 0..<3 {
            for x in 0..<5 {
                for channel in 0..<3 { address[64 * y + 4 * x + places(channel)] = value(x, y, channel) }
            }
        }
        return picture
    }
}

/// Holds a model as the project's own code does.
private actor Predictor {
    // Core ML says that predictions may run at the same time; the type itself is not Sendable.
    private nonisolated(unsafe) let model: MLModel

    init(model: sending MLModel) {
        self.model = model
    }

    func last() async throws -> Int {
        try await model.prediction(from: TestPackages.arrayInputs()).array("scaled")[59].intValue
    }
}
