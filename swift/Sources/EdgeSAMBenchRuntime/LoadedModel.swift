@preconcurrency import CoreML
import EdgeSAMBenchCore
import EdgeSAMCore
import Foundation

/// A loaded model with its inputs and the memory of its outputs.
///
/// Unchecked: the runner calls one thing at a time, but for asynchronous predictions, which Core ML's models take from
/// several tasks at once, and of which each worker has its own memory for outputs.
final class LoadedModel: @unchecked Sendable {
    let compiled: URL
    let configuration: MLModelConfiguration
    private let model: MLModel
    private let clock: any MonotonicClock
    private var plan: InputPlan?
    private var inputs: [Int: MLDictionaryFeatureProvider] = [:]
    /// One for each worker; filled once the first prediction has shown the shapes of the outputs.
    private var backings: [[String: MLMultiArray]] = []

    init(compiled: URL, configuration: MLModelConfiguration, clock: any MonotonicClock) async throws {
        self.compiled = compiled
        self.configuration = configuration
        self.clock = clock
        model = try await MLModel.load(contentsOf: compiled, configuration: configuration)
    }

    var interface: ModelInterface {
        let description = model.modelDescription
        return ModelInterface(
            inputs: description.inputDescriptionsByName.values.map(\.described).sorted { $0.name < $1.name },
            outputs: description.outputDescriptionsByName.values.map(\.described).sorted { $0.name < $1.name },
            computePrecision: contractFacts?.precision)
    }

    func prepare(_ plan: InputPlan) throws {
        let maker = maker(memory: plan.memory)
        inputs = [:]
        for points in Set(plan.nPoints) { inputs[points] = try maker.timing(nPoints: points, feed: plan.feed) }
        backings = []
        self.plan = plan
    }

    /// Times one synchronous prediction.
    func predict(nPoints: Int) throws -> Prediction {
        let (input, backing) = (try input(nPoints), backings.first)
        return try autoreleasepool {
            let options = Self.options(backing)
            let start = clock.nowNs
            let outputs = try model.prediction(from: input, options: options)
            let duration = clock.nowNs - start
            let honoured = try check(outputs, backing)
            if backing == nil { try makeBackings(like: outputs) }
            return Prediction(durationNs: duration, backingsHonoured: honoured)
        }
    }

    /// One asynchronous prediction.
    func predictOverlapped(nPoints: Int, worker: Int) async throws {
        let backing = backings.indices.contains(worker) ? backings[worker] : nil
        let outputs = try await model.prediction(from: try input(nPoints), options: Self.options(backing))
        _ = try check(outputs, backing)
    }

    /// The outputs for values from files, as float32.
    func outputs(feed: [String: URL]) throws -> [OutputArray] {
        let input = try maker(memory: .multiArray).exact(feed: feed)
        let outputs = try model.prediction(from: input, options: MLPredictionOptions())
        return try outputs.featureNames.sorted().map { name in
            let array = try Self.array(name, in: outputs)
            let npy = try NPYArray(shape: array.shape.map(\.intValue), floats: array.read())
            return OutputArray(name: name, npy: npy.file())
        }
    }

    // MARK: Inputs

    /// What the contract in the metadata tells beyond shapes; a foreign model has none.
    private struct ContractFacts: Decodable { let precision: String? }

    private var contractText: String? {
        let own = model.modelDescription.metadata[.creatorDefinedKey] as? [String: String]
        return own?[Contract.metadataKey]
    }

    private var contractFacts: ContractFacts? {
        contractText.flatMap { try? JSONDecoder().decode(ContractFacts.self, from: Data($0.utf8)) }
    }

    private func maker(memory: InputMemory) -> InputMaker {
        let inputs = model.modelDescription.inputDescriptionsByName
        let contract = contractText.flatMap { try? Contract(json: $0) }
        // Without a contract the description's shape is taken as fixed.
        let described = inputs["point_labels"]?.multiArrayConstraint?.shape.last?.intValue
        return InputMaker(inputs: inputs, slots: contract.map(\.slots) ?? described, memory: memory)
    }

    private func input(_ nPoints: Int) throws -> MLDictionaryFeatureProvider {
        guard let input = inputs[nPoints] else {
            throw BenchFailure(
                stage: "inputs", code: "not_prepared", message: "no inputs were prepared for \(nPoints) points")
        }
        return input
    }

    // MARK: Outputs

    private static func options(_ backing: [String: MLMultiArray]?) -> MLPredictionOptions {
        let options = MLPredictionOptions()
        if let backing { options.outputBackings = backing }
        return options
    }

    private func makeBackings(like outputs: any MLFeatureProvider) throws {
        guard let plan, plan.outputBackings else { return }
        backings = try (0..<plan.workers).map { _ in
            var own: [String: MLMultiArray] = [:]
            for name in outputs.featureNames {
                let array = try Self.array(name, in: outputs)
                own[name] = try TensorMemory.make(
                    shape: array.shape.map(\.intValue), type: array.dataType, memory: plan.memory)
            }
            return own
        }
    }

    /// Looks at an element of every output, so that no work can be left undone, and whether the backings were used.
    private func check(_ outputs: any MLFeatureProvider, _ backing: [String: MLMultiArray]?) throws -> Bool? {
        var honoured = true
        for name in outputs.featureNames {
            let array = try Self.array(name, in: outputs)
            let value = try array.middle()
            guard value.isFinite else {
                throw BenchFailure(
                    stage: "outputs", code: "not_finite", message: "output '\(name)' holds \(value)",
                    hint: "compare the parity of these compute units with those of cpu_only")
            }
            if let backing, backing[name] !== array { honoured = false }
        }
        return backing == nil ? nil : honoured
    }

    private static func array(_ name: String, in outputs: any MLFeatureProvider) throws -> MLMultiArray {
        guard let array = outputs.featureValue(for: name)?.multiArrayValue else {
            throw BenchFailure(stage: "outputs", code: "no_tensor", message: "output '\(name)' is not a tensor")
        }
        return array
    }
}
