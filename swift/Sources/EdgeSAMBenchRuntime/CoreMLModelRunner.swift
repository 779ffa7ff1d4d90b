@preconcurrency import CoreML
import EdgeSAMBenchCore
import Foundation

/// Runs models with Core ML; on Linux with its stand-in, and the result says so.
public actor CoreMLModelRunner: ModelRunner {
    #if canImport(Darwin)
        public nonisolated let runtime = "coreml"
    #else
        public nonisolated let runtime = "coreml_stand_in"
    #endif

    private let compiledModels: CompiledModels
    private let clock = SystemMonotonicClock()
    private var loaded: [ModelRole: LoadedModel] = [:]
    private var endToEnd: EndToEnd?

    /// - Parameter compiledModels: where compiled models are kept; nil is a folder in Application Support.
    public init(compiledModels: URL? = nil) throws {
        self.compiledModels = try CompiledModels(folder: compiledModels)
    }

    public func compile(_ model: ModelFile) async throws -> Bool { try await compiledModels.compile(model) }

    public func load(_ model: ModelFile, units: ComputeUnitsChoice, hints: Hints) async throws {
        endToEnd = nil
        loaded[model.role] = nil
        loaded[model.role] = try await LoadedModel(
            compiled: compiledModels.location(of: model), configuration: hints.configuration(units: units), clock: clock
        )
    }

    public func unload(_ role: ModelRole) {
        loaded[role] = nil
        endToEnd = nil
    }

    public func interface(of role: ModelRole) throws -> ModelInterface { try model(role).interface }

    public func prepare(_ stage: Stage, _ inputs: InputPlan) async throws {
        guard stage == .endToEnd else {
            for role in stage.roles { try model(role).prepare(inputs) }
            return
        }
        guard let encoder = inputs.models[.encoder], let decoder = inputs.models[.decoder] else {
            throw BenchFailure(stage: "end_to_end", code: "no_model", message: "end_to_end needs both models")
        }
        // The predictor loads the models once more: both at a time could be more than a phone has memory for.
        loaded = [:]
        endToEnd = try await EndToEnd(
            encoder: compiledModels.location(of: encoder), decoder: compiledModels.location(of: decoder), plan: inputs,
            clock: clock)
    }

    public func predict(_ stage: Stage, nPoints: Int) async throws -> Prediction {
        switch stage {
        case .encoder: return try model(.encoder).predict(nPoints: nPoints)
        case .decoder: return try model(.decoder).predict(nPoints: nPoints)
        case .endToEnd:
            guard let endToEnd else { throw Self.notLoaded("end_to_end") }
            return try await endToEnd.predict()
        }
    }

    public func frame(_ stages: [Stage], nPoints: Int, worker: Int) async throws {
        for role in stages.flatMap(\.roles) {
            try await model(role).predictOverlapped(nPoints: nPoints, worker: worker)
        }
    }

    public func computePlan(of role: ModelRole) async throws -> ComputePlanSummary? {
        guard #available(iOS 17.4, macOS 14.4, *) else { return nil }
        let model = try model(role)
        return try await ComputePlanReader.summary(of: model.compiled, configuration: model.configuration)
    }

    public func outputs(of role: ModelRole, feed: [String: URL]) throws -> [OutputArray] {
        try model(role).outputs(feed: feed)
    }

    private func model(_ role: ModelRole) throws -> LoadedModel {
        guard let model = loaded[role] else { throw Self.notLoaded(role.rawValue) }
        return model
    }

    private static func notLoaded(_ name: String) -> BenchFailure {
        BenchFailure(stage: name, code: "not_loaded", message: "\(name) is not loaded")
    }
}
