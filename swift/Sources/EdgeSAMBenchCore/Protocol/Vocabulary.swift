/// Version of the protocol between the host and the runner; a request of another version is refused.
public let benchProtocolVersion = 1

/// Version of the result document.
public let benchSchemaVersion = 1

/// What a model is for.
public enum ModelRole: String, Codable, Sendable, CaseIterable {
    case encoder
    case decoder
}

/// Processors a model may use.
public enum ComputeUnitsChoice: String, Codable, Sendable, CaseIterable {
    case all
    case cpuOnly = "cpu_only"
    case cpuAndGPU = "cpu_and_gpu"
    case cpuAndNeuralEngine = "cpu_and_ne"
}

/// How often the shapes of flexible inputs change.
public enum ReshapeFrequency: String, Codable, Sendable, CaseIterable {
    case frequent
    case infrequent
}

/// What Core ML optimises a model for when it loads it.
public enum SpecializationChoice: String, Codable, Sendable, CaseIterable {
    case standard = "default"
    case fastPrediction = "fast_prediction"
}

/// Something that is timed.
public enum Stage: String, Codable, Sendable, CaseIterable {
    case encoder
    case decoder
    case endToEnd = "end_to_end"

    /// The models that the stage needs.
    public var roles: [ModelRole] {
        switch self {
        case .encoder: [.encoder]
        case .decoder: [.decoder]
        case .endToEnd: [.encoder, .decoder]
        }
    }
}

/// Where the values of the inputs come from.
public enum InputSource: String, Codable, Sendable, CaseIterable {
    case random
    case file
}

/// The memory that the inputs live in.
public enum InputMemory: String, Codable, Sendable, CaseIterable {
    case multiArray = "multiarray"
    case pixelBuffer = "pixelbuffer"
}

/// Thermal states of a device, in rising order.
public enum ThermalLevel: String, Codable, Sendable, CaseIterable, Comparable {
    case nominal
    case fair
    case serious
    case critical

    public static func < (left: ThermalLevel, right: ThermalLevel) -> Bool { left.rank < right.rank }

    private var rank: Int {
        switch self {
        case .nominal: 0
        case .fair: 1
        case .serious: 2
        case .critical: 3
        }
    }
}

/// Where a run is.
public enum BenchPhase: String, Codable, Sendable, CaseIterable {
    case received
    case compiling
    case loading
    case warming
    case waitingThermal = "waiting_thermal"
    case running
    case cooling
    case writing
    case done
    case failed

    /// Whether nothing follows.
    public var isFinal: Bool { self == .done || self == .failed }
}

/// How a case ended.
public enum CaseOutcome: String, Codable, Sendable, CaseIterable {
    case passed = "ok"
    case failed
    case crashed
    case timeout
    case skipped
}
