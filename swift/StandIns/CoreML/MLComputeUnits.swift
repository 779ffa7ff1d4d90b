/// Stand-in for <https://developer.apple.com/documentation/coreml/mlcomputeunits>.
public enum MLComputeUnits: Int, Sendable {
    case cpuOnly = 0
    case cpuAndGPU = 1
    case all = 2
    case cpuAndNeuralEngine = 3
}
