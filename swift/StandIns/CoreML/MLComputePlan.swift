/// Which operations a program has.  Where they would run and what they cost, only Core ML knows: always nil here.
///
/// Stand-in for <https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n>.
@available(iOS 17.4, macOS 14.4, visionOS 1.1, *)
public class MLComputePlan {
    /// <https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n/deviceusage>
    public struct DeviceUsage: Sendable {
        public let supported: [MLComputeDevice]
        public let preferred: MLComputeDevice
    }

    /// <https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n/cost>
    public struct Cost: Sendable {
        public let weight: Double
    }

    /// <https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n/modelstructure>
    public final let modelStructure: MLModelStructure

    init(modelStructure: MLModelStructure) {
        self.modelStructure = modelStructure
    }

    /// <https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n/load(contentsof:configuration:)>
    public static func load(
        contentsOf url: URL, configuration: MLModelConfiguration
    ) async throws -> MLComputePlan {
        let package = try CompiledModel(contentsOf: url).package
        let request = ServiceRequest(method: "structure", path: package.path, function: configuration.functionName)
        let reply = try await ModelService.shared.call(request, answer: StructureAnswer.self)
        return MLComputePlan(modelStructure: MLModelStructure(reply.answer))
    }

    /// <https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n/deviceusage(for:)-2xhkm>
    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? { nil }

    /// <https://developer.apple.com/documentation/coreml/mlcomputeplan-1w21n/estimatedcost(of:)>
    public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> Cost? { nil }
}
