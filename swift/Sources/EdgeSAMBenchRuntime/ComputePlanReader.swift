@preconcurrency import CoreML
import EdgeSAMBenchCore
import Foundation

/// Sums up where Core ML says it will run a program.
@available(iOS 17.4, macOS 14.4, *)
enum ComputePlanReader {
    static func summary(of compiled: URL, configuration: MLModelConfiguration) async throws -> ComputePlanSummary? {
        let plan = try await MLComputePlan.load(contentsOf: compiled, configuration: configuration)
        guard case .program(let program) = plan.modelStructure, let main = function(of: program) else { return nil }
        var preferred = ComputePlanSummary.Preferred()
        var supported = 0
        var cost = (ane: 0.0, total: 0.0)
        var elsewhere: [String: Int] = [:]
        let operations = main.block.operations.filter { bareName($0) != "const" }
        for operation in operations {
            let usage = plan.deviceUsage(for: operation)
            let weight = plan.estimatedCost(of: operation)?.weight ?? 0
            cost.total += weight
            if usage?.supported.contains(where: isNeuralEngine) == true { supported += 1 }
            switch usage?.preferred {
            case .neuralEngine: preferred.ane += 1
            case .gpu: preferred.gpu += 1
            case .cpu: preferred.cpu += 1
            default: preferred.unknown += 1
            }
            guard let usage else { continue }
            if isNeuralEngine(usage.preferred) {
                cost.ane += weight
            } else {
                elsewhere[bareName(operation), default: 0] += 1
            }
        }
        let counts = elsewhere.map { ComputePlanSummary.OperationCount(type: $0.key, count: $0.value) }
        return ComputePlanSummary(
            opsTotal: operations.count, preferred: preferred, supportedAne: supported,
            aneCostShare: cost.total > 0 ? cost.ane / cost.total : nil,
            notAneOps: counts.sorted { ($1.count, $0.type) < ($0.count, $1.type) })
    }

    private static func function(of program: MLModelStructure.Program) -> MLModelStructure.Program.Function? {
        program.functions["main"] ?? program.functions.sorted { $0.key < $1.key }.first?.value
    }

    /// `conv` of `ios17.conv`.
    private static func bareName(_ operation: MLModelStructure.Program.Operation) -> String {
        operation.operatorName.split(separator: ".").last.map(String.init) ?? operation.operatorName
    }

    private static func isNeuralEngine(_ device: MLComputeDevice) -> Bool {
        if case .neuralEngine = device { true } else { false }
    }
}
