/// A compiled model, loaded.
///
/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmodel>.
public class MLModel: NSObject {
    /// <https://developer.apple.com/documentation/coreml/mlmodel/modeldescription>
    public let modelDescription: MLModelDescription
    /// <https://developer.apple.com/documentation/coreml/mlmodel/configuration>
    public let configuration: MLModelConfiguration

    private let service: ModelService
    private let handle: ModelService.Handle

    init(url: URL, configuration: MLModelConfiguration, service: ModelService) throws {
        let request = try Self.loadRequest(url, configuration)
        let reply = try service.call(request, answer: LoadAnswer.self)
        self.service = service
        self.configuration = Self.copy(configuration)
        modelDescription = MLModelDescription(reply.answer)
        handle = ModelService.Handle(generation: reply.generation, number: reply.answer.handle)
        super.init()
    }

    deinit {
        service.unload(handle)
    }

    /// <https://developer.apple.com/documentation/coreml/mlmodel/init(contentsof:configuration:)>
    public convenience init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        try self.init(url: url, configuration: configuration, service: .shared)
    }

    /// <https://developer.apple.com/documentation/coreml/mlmodel/init(contentsof:)>
    public convenience init(contentsOf url: URL) throws {
        try self.init(contentsOf: url, configuration: MLModelConfiguration())
    }

    /// <https://developer.apple.com/documentation/coreml/mlmodel/load(contentsof:configuration:)>
    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel {
        try MLModel(contentsOf: url, configuration: configuration)
    }

    /// Checks that the package can be read and copies it to a folder for temporary files, which is the caller's.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmodel/compilemodel(at:)-6442s>
    public class func compileModel(at modelURL: URL) async throws -> URL {
        let request = ServiceRequest(method: "structure", path: modelURL.path)
        _ = try await ModelService.shared.call(request, answer: StructureAnswer.self)
        return try CompiledModel.make(from: modelURL)
    }

    /// The processor alone: the executor uses nothing else.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmodel/availablecomputedevices-6klyt>
    public class var availableComputeDevices: [MLComputeDevice] { MLComputeDevice.allComputeDevices }

    /// <https://developer.apple.com/documentation/coreml/mlmodel/prediction(from:)>
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        try prediction(from: input, options: MLPredictionOptions())
    }

    /// <https://developer.apple.com/documentation/coreml/mlmodel/prediction(from:options:)-81mlr>
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions
    ) throws -> any MLFeatureProvider {
        let features = try encode(input)
        let reply = try service.call(
            predictRequest(features), payload: features.payload, generation: handle.generation,
            answer: PredictAnswer.self)
        return try decode(reply, options)
    }

    /// <https://developer.apple.com/documentation/coreml/mlmodel/prediction(from:options:)-2wtcr>
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        guard !Task.isCancelled else { throw MLModelError(.predictionCancelled, message: "the task was cancelled") }
        let features = try encode(input)
        let reply = try await service.call(
            predictRequest(features), payload: features.payload, generation: handle.generation,
            answer: PredictAnswer.self)
        return try decode(reply, options)
    }

    /// Asks the provider for what the model takes; what else it has is left alone.
    private func encode(_ input: any MLFeatureProvider) throws -> FeatureEncoder {
        var encoder = FeatureEncoder()
        for (name, description) in modelDescription.inputDescriptionsByName.sorted(by: { $0.key < $1.key }) {
            if let value = input.featureValue(for: name) {
                try encoder.append(value, for: description)
            } else if !description.isOptional {
                let given = input.featureNames.sorted().joined(separator: ", ")
                throw MLModelError(.featureType, message: "input '\(name)' is missing; given: \(given)")
            }
        }
        return encoder
    }

    private func predictRequest(_ features: FeatureEncoder) -> ServiceRequest {
        ServiceRequest(method: "predict", handle: handle.number, features: features.features)
    }

    private func decode(
        _ reply: ModelService.Reply<PredictAnswer>, _ options: MLPredictionOptions
    ) throws -> any MLFeatureProvider {
        let decoder = FeatureDecoder(payload: reply.payload, backings: options.outputBackings)
        var outputs: [String: Any] = [:]
        for feature in reply.answer.features { outputs[feature.name] = try decoder.value(of: feature) }
        return try MLDictionaryFeatureProvider(dictionary: outputs)
    }

    private static func loadRequest(_ url: URL, _ configuration: MLModelConfiguration) throws -> ServiceRequest {
        ServiceRequest(
            method: "load", path: try CompiledModel(contentsOf: url).package.path,
            function: configuration.functionName, numerics: Numerics.name(for: configuration.computeUnits))
    }

    private static func copy(_ configuration: MLModelConfiguration) -> MLModelConfiguration {
        configuration.copy() as? MLModelConfiguration ?? configuration
    }
}
