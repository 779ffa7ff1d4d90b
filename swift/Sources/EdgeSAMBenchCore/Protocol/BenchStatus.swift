/// The heartbeat: `status.json`, replaced at least once a second.
public struct BenchStatus: Codable, Sendable, Equatable {
    public var protocolVersion = benchProtocolVersion
    public var runId: String
    public var nonce: String
    /// Rises with every writing, also over a restart of the same run.
    public var seq: Int
    /// Since the runner took up the run.
    public var uptimeS: Double
    public var phase: BenchPhase
    /// Counted from zero; nil outside cases.
    public var caseIndex: Int?
    public var caseCount: Int?
    /// Predictions finished in the present phase.
    public var iteration: Int?
    public var thermalState: ThermalLevel?
    /// Bytes.
    public var physFootprint: Int?
    public var appVersion: String
    /// `debug` or `release`.
    public var buildConfiguration: String
    public var error: BenchFailure?
    public var result: ResultReference?
}

/// Announces the finished result, so that a reader knows a complete copy from a torn one.
public struct ResultReference: Codable, Sendable, Equatable {
    public var file: String
    public var bytes: Int
    public var sha256: String
}
