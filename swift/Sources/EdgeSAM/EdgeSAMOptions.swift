@preconcurrency import CoreML
import Foundation

/// How the two models are loaded; the defaults suit EdgeSAM on a phone.
public struct EdgeSAMOptions: Sendable {
    /// What Core ML may assume about the shapes of inputs (iOS 17.4, macOS 14.4).
    public enum ReshapeFrequency: Sendable {
        case frequent
        case infrequent
    }

    /// What Core ML spends while loading for the sake of predictions (iOS 18, macOS 15).
    public enum Specialization: Sendable {
        case standard
        case fastPrediction
    }

    /// Where the encoder may run.
    ///
    /// Both defaults leave the GPU to the app: on phones, the decoder is reported faster without it.
    public var encoderUnits: MLComputeUnits
    /// Where the decoder may run.
    public var decoderUnits: MLComputeUnits
    /// nil leaves Core ML's default; ignored by systems that do not know it.
    public var reshapeFrequency: ReshapeFrequency?
    /// nil leaves Core ML's default; ignored by systems that do not know it.
    public var specialization: Specialization?
    /// Function of a decoder that has several, such as `points_2`; nil takes the default one. Needs iOS 18, macOS 15.
    public var decoderFunction: String?
    /// Where compiled models are kept; nil is `EdgeSAM/CompiledModels` in Application Support.
    public var compiledModels: URL?
    /// How many compiled models are kept there, the last used first; those in use are kept in any case.
    public var compiledModelLimit: Int

    /// Two models of an encoder and a decoder.
    public static let defaultCompiledModelLimit = 4

    public init(
        encoderUnits: MLComputeUnits = .cpuAndNeuralEngine,
        decoderUnits: MLComputeUnits = .cpuAndNeuralEngine,
        reshapeFrequency: ReshapeFrequency? = nil,
        specialization: Specialization? = nil,
        decoderFunction: String? = nil,
        compiledModels: URL? = nil,
        compiledModelLimit: Int = EdgeSAMOptions.defaultCompiledModelLimit
    ) {
        self.encoderUnits = encoderUnits
        self.decoderUnits = decoderUnits
        self.reshapeFrequency = reshapeFrequency
        self.specialization = specialization
        self.decoderFunction = decoderFunction
        self.compiledModels = compiledModels
        self.compiledModelLimit = compiledModelLimit
    }

    /// Core ML's configuration of one model.
    func configuration(units: MLComputeUnits, function: String?) throws -> MLModelConfiguration {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        if #available(iOS 17.4, macOS 14.4, visionOS 1.1, *), let reshapeFrequency {
            configuration.optimizationHints.reshapeFrequency =
                reshapeFrequency == .frequent ? .frequent : .infrequent
        }
        if #available(iOS 18, macOS 15, visionOS 2, *), let specialization {
            configuration.optimizationHints.specializationStrategy =
                specialization == .standard ? .default : .fastPrediction
        }
        if let function {
            guard #available(iOS 18, macOS 15, visionOS 2, *) else {
                throw EdgeSAMError.systemTooOld(
                    feature: "decoder function '\(function)'", needs: "iOS 18, macOS 15 or visionOS 2")
            }
            configuration.functionName = function
        }
        return configuration
    }
}
