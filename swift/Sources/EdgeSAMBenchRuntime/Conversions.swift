@preconcurrency import CoreML
import EdgeSAM
import EdgeSAMBenchCore
import EdgeSAMCore

extension ComputeUnitsChoice {
    var coreML: MLComputeUnits {
        switch self {
        case .all: .all
        case .cpuOnly: .cpuOnly
        case .cpuAndGPU: .cpuAndGPU
        case .cpuAndNeuralEngine: .cpuAndNeuralEngine
        }
    }
}

extension Hints {
    /// Core ML's configuration for these hints.  A system that does not know a hint must not ignore it silently.
    func configuration(units: ComputeUnitsChoice) throws -> MLModelConfiguration {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units.coreML
        if let reshapeFrequency {
            guard #available(iOS 17.4, macOS 14.4, *) else {
                throw Self.tooOld("reshape_frequency", needs: "iOS 17.4 or macOS 14.4")
            }
            configuration.optimizationHints.reshapeFrequency =
                reshapeFrequency == .frequent ? .frequent : .infrequent
        }
        if let specializationStrategy {
            guard #available(iOS 18, macOS 15, *) else {
                throw Self.tooOld("specialization_strategy", needs: "iOS 18 or macOS 15")
            }
            configuration.optimizationHints.specializationStrategy =
                specializationStrategy == .standard ? .default : .fastPrediction
        }
        return configuration
    }

    func options(units: UnitsPerRole) -> EdgeSAMOptions {
        EdgeSAMOptions(
            encoderUnits: units.encoder.coreML, decoderUnits: units.decoder.coreML,
            reshapeFrequency: reshapeFrequency.map { $0 == .frequent ? .frequent : .infrequent },
            specialization: specializationStrategy.map { $0 == .standard ? .standard : .fastPrediction })
    }

    private static func tooOld(_ hint: String, needs: String) -> BenchFailure {
        BenchFailure(stage: "loading", code: "system_too_old", message: "hint \(hint) needs \(needs)")
    }
}

extension MLMultiArray {
    /// A dense, row-major copy as float32.
    func read() throws -> [Float] { try withTensor { $0.floats() } }

    /// The element in the middle of every dimension.
    func middle() throws -> Float { try withTensor { try $0.value(at: sizes.map { $0 / 2 }) } }
}

extension MLFeatureDescription {
    /// The tensor or image as the result describes it.
    var described: TensorDescription {
        if let image = imageConstraint {
            return TensorDescription(name: name, shape: [image.pixelsHigh, image.pixelsWide], dtype: "image")
        }
        let shape = multiArrayConstraint?.shape.map(\.intValue) ?? []
        return TensorDescription(name: name, shape: shape, dtype: multiArrayConstraint?.dataType.word ?? "other")
    }
}

extension MLMultiArrayDataType {
    fileprivate var word: String {
        switch self {
        case .float16: "fp16"
        case .float32: "fp32"
        case .double: "fp64"
        case .int32: "int32"
        default: "type \(rawValue)"
        }
    }
}
