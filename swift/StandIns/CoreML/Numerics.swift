/// Which of the executor's numerics stands for which compute units.
enum Numerics {
    /// `EDGESAM_COREML_NUMERICS` where it is set; otherwise `fp16`, the program as it is typed, and for the Neural
    /// Engine `ane`, a pessimistic estimate of its arithmetic.
    static func name(
        for units: MLComputeUnits, environment: [String: String] = ProcessInfo.processInfo.environment
    ) -> String {
        environment["EDGESAM_COREML_NUMERICS"] ?? (units == .cpuAndNeuralEngine ? "ane" : "fp16")
    }
}
