@preconcurrency import CoreML
import EdgeSAMCore
import Foundation

/// One loaded model.
///
/// Unchecked: Core ML's models take asynchronous predictions from several tasks at once, and the model is never changed.
struct Network: @unchecked Sendable {
    let file: String
    private let model: MLModel
    private let pool = MemoryPool()

    /// - Parameter url: a compiled model.
    init(compiled url: URL, file: String, configuration: MLModelConfiguration) async throws {
        self.file = file
        do {
            model = try await MLModel.load(contentsOf: url, configuration: configuration)
        } catch {
            try Task.checkCancellation()
            throw EdgeSAMError.cannotLoad(file: file, reason: error.localizedDescription)
        }
    }

    /// JSON text of the contract, nil when the model carries none.
    var contractText: String? {
        let own = model.modelDescription.metadata[.creatorDefinedKey] as? [String: String]
        return own?[Contract.metadataKey]
    }

    /// Check that the program has the inputs and outputs that its contract lists.
    func check(_ contract: Contract, slots: Int?) throws(EdgeSAMError) {
        let (inputs, outputs) = (
            model.modelDescription.inputDescriptionsByName, model.modelDescription.outputDescriptionsByName
        )
        for (promised, found) in [(contract.inputs, inputs), (contract.outputs, outputs)] {
            guard Set(promised.map(\.name)) == Set(found.keys) else {
                throw .contractBroken(
                    file: file,
                    detail: "it has \(found.keys.sorted()) where the contract has \(promised.map(\.name).sorted())")
            }
            for tensor in promised where (tensor.dtype == "image") != (found[tensor.name]?.type == .image) {
                throw .contractBroken(file: file, detail: "'\(tensor.name)' is an image in one, a tensor in the other")
            }
        }
        guard let slots else { return }
        let shape = inputs["point_labels"]?.multiArrayConstraint?.shape.map(\.intValue) ?? []
        guard shape == [contract.queries, slots] else {
            throw .contractBroken(
                file: file,
                detail: "point_labels has shape \(shape), the contract \(slots) slots and queries: \(contract.queries)")
        }
    }

    /// The type of an input in the program; 32-bit floats where the program does not say.
    func inputType(_ name: String) -> MLMultiArrayDataType {
        model.modelDescription.inputDescriptionsByName[name]?.multiArrayConstraint?.dataType ?? .float32
    }

    /// Run the model; outputs by name, in memory from the pool where Core ML takes it.
    ///
    /// - Parameter promised: the outputs of the contract, whose memory is offered to Core ML.
    func predict(
        _ inputs: [String: NetworkInput], promised: [Contract.Tensor], stage: EdgeSAMError.Stage
    ) async throws -> [String: SharedTensor] {
        try Task.checkCancellation()
        do {
            let features = try NetworkInputs(inputs, pool: pool)
            let provider = try features.provider()
            let options = MLPredictionOptions()
            let backings = try outputBackings(promised)
            options.outputBackings = backings
            try Task.checkCancellation()
            let outputs = try await model.prediction(from: provider, options: options)
            var read: [String: SharedTensor] = [:]
            for name in outputs.featureNames {
                guard let array = outputs.featureValue(for: name)?.multiArrayValue else { continue }
                read[name] = try own(array, backing: backings[name])
            }
            features.giveBack()
            try Task.checkCancellation()
            return read
        } catch {
            // Core ML reports a cancelled prediction with an error of its own.
            try Task.checkCancellation()
            if let known = error as? EdgeSAMError { throw known }
            throw EdgeSAMError.predictionFailed(stage, reason: error.localizedDescription)
        }
    }

    /// Arrays for outputs of fixed shapes.
    private func outputBackings(_ promised: [Contract.Tensor]) throws -> [String: MLMultiArray] {
        var backings: [String: MLMultiArray] = [:]
        let described = model.modelDescription.outputDescriptionsByName
        for tensor in promised {
            let shape = tensor.shape.compactMap { if case .fixed(let size) = $0 { size } else { nil } }
            guard shape.count == tensor.shape.count, !shape.isEmpty,
                let type = described[tensor.name]?.multiArrayConstraint?.dataType
            else { continue }
            backings[tensor.name] = try pool.array(shape: shape, type: type)
        }
        return backings
    }

    /// An output that stays as it is: the memory that Core ML was offered, or a copy, because its own it may use again.
    private func own(_ array: MLMultiArray, backing: MLMultiArray?) throws -> SharedTensor {
        if array === backing { return SharedTensor(array, pool: pool) }
        let copy = try pool.array(shape: array.sizes, type: array.dataType)
        try copy.store(try array.withTensor { $0.floats() })
        return SharedTensor(copy, pool: pool)
    }
}
