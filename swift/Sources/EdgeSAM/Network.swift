@preconcurrency import CoreML
import EdgeSAMCore
import Foundation

/// One loaded model: values in, values out, so that no object of Core ML leaves a call.
///
/// Unchecked: Core ML's models take asynchronous predictions from several tasks at once, and the model is never changed.
struct Network: @unchecked Sendable {
    let file: String
    private let model: MLModel

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
                throw .contractBroken(file: file, detail: "'\(tensor.name)' is a picture in one, a tensor in the other")
            }
        }
        guard let slots else { return }
        let shape = inputs["point_labels"]?.multiArrayConstraint?.shape.map(\.intValue) ?? []
        guard shape == [1, slots] else {
            throw .contractBroken(file: file, detail: "point_labels has shape \(shape), the contract \(slots) slots")
        }
    }

    /// Run the model; outputs by name, each a dense row-major copy as float32 with its shape.
    func predict(_ inputs: [String: NetworkInput], stage: EdgeSAMError.Stage) async throws -> [String: Output] {
        try Task.checkCancellation()
        do {
            let features = try MLDictionaryFeatureProvider(dictionary: inputs.mapValues { try $0.feature() })
            try Task.checkCancellation()
            let outputs = try await model.prediction(from: features, options: MLPredictionOptions())
            var read: [String: Output] = [:]
            for name in outputs.featureNames {
                guard let array = outputs.featureValue(for: name)?.multiArrayValue else { continue }
                read[name] = try Output(array)
            }
            try Task.checkCancellation()
            return read
        } catch {
            // Core ML reports a cancelled prediction with an error of its own.
            try Task.checkCancellation()
            throw EdgeSAMError.predictionFailed(stage, reason: error.localizedDescription)
        }
    }

    /// One output.
    struct Output: Sendable {
        let shape: [Int]
        let values: [Float]

        /// Copies: Core ML may use an output's memory again.
        init(_ array: MLMultiArray) throws {
            let type: ElementType
            switch array.dataType {
            case .float16: type = .float16
            case .float32: type = .float32
            case .double: type = .float64
            case .int32: type = .int32
            default: throw EdgeSAMError.contractBroken(file: "output", detail: "element type \(array.dataType)")
            }
            let shape = array.shape.map(\.intValue)
            let strides = Self.strides(reported: array.strides.map(\.intValue), shape: shape)
            self.shape = shape
            values = try array.withUnsafeBytes { bytes in
                try TensorView(bytes: bytes, shape: shape, strides: strides, type: type).floats()
            }
        }

        /// Strides to read with: zeros throughout were reported of dense outputs, and no output repeats one element.
        static func strides(reported: [Int], shape: [Int]) -> [Int] {
            reported.allSatisfy { $0 == 0 } ? TensorLayout.contiguousStrides(shape) : reported
        }
    }
}
