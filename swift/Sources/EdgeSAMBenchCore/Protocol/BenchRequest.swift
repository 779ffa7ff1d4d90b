/// What the host asks for: `request.json`.  Unknown fields are ignored.
public struct BenchRequest: Codable, Sendable, Equatable {
    public var protocolVersion: Int
    /// UUID, lower case.
    public var runId: String
    /// 32 hexadecimal digits; tells this run's documents from left-overs.
    public var nonce: String
    /// ISO 8601, UTC.
    public var createdAt: String
    public var models: [ModelRequest]
    public var matrix: [MatrixRow]
    public var schedule: Schedule
    public var workload: Workload
    public var collect: Collect

    /// The model of a role; nil where the request has none.
    public func model(_ role: ModelRole) -> ModelRequest? { models.first { $0.role == role } }

    /// The roles that the stages need, encoder first.
    public var roles: [ModelRole] {
        ModelRole.allCases.filter { role in workload.stages.contains { $0.roles.contains(role) } }
    }
}

/// One model in the pushed folder.
public struct ModelRequest: Codable, Sendable, Equatable {
    public var id: String
    public var role: ModelRole
    /// Relative to the pushed folder, forward slashes.
    public var relativePath: String
    /// ``TreeDigest`` of the package, 64 hexadecimal digits.
    public var sha256Tree: String
    public var inputSpec: [InputSpec]
}

/// A model's input as the exporter declares it.  The runner builds inputs from the model itself; this is for readers.
public struct InputSpec: Codable, Sendable, Equatable {
    public var name: String
    /// Sizes; a free dimension is nil.
    public var shape: [Int?]
    public var dtype: String

    public init(name: String, shape: [Int?], dtype: String) {
        self.name = name
        self.shape = shape
        self.dtype = dtype
    }

    private enum CodingKeys: String, CodingKey { case name, shape, dtype }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        name = try container.decode(String.self, forKey: .name)
        dtype = try container.decode(String.self, forKey: .dtype)
        shape = try container.decode([Dimension].self, forKey: .shape).map(\.size)
    }

    /// A size, or the name of a free dimension.
    private struct Dimension: Decodable {
        let size: Int?

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                size = nil
            } else if let name = try? container.decode(String.self) {
                size = Int(name)
            } else {
                size = try container.decode(Int.self)
            }
        }
    }
}

/// One combination of compute units and hints.
public struct MatrixRow: Codable, Sendable, Equatable {
    public var computeUnits: UnitsPerRole
    public var hints: Hints?

    public init(computeUnits: UnitsPerRole, hints: Hints? = nil) {
        self.computeUnits = computeUnits
        self.hints = hints
    }
}

/// Compute units of both models.
public struct UnitsPerRole: Codable, Sendable, Equatable {
    public var encoder: ComputeUnitsChoice
    public var decoder: ComputeUnitsChoice

    public init(encoder: ComputeUnitsChoice, decoder: ComputeUnitsChoice) {
        self.encoder = encoder
        self.decoder = decoder
    }

    public subscript(role: ModelRole) -> ComputeUnitsChoice {
        switch role {
        case .encoder: encoder
        case .decoder: decoder
        }
    }
}

/// Optimisation hints; nil leaves Core ML's default.
public struct Hints: Codable, Sendable, Equatable {
    public var reshapeFrequency: ReshapeFrequency?
    public var specializationStrategy: SpecializationChoice?

    public init(reshapeFrequency: ReshapeFrequency? = nil, specializationStrategy: SpecializationChoice? = nil) {
        self.reshapeFrequency = reshapeFrequency
        self.specializationStrategy = specializationStrategy
    }
}

/// How long and how often to measure.
public struct Schedule: Codable, Sendable, Equatable {
    public var warmupIterations: Int
    public var minIterations: Int
    public var minDurationS: Double
    public var maxDurationS: Double
    /// Zero: no sustained run.
    public var sustainedDurationS: Double
    public var loadRepeats: Int
    public var cooldownS: Double
    public var startWhenThermalAtMost: ThermalLevel
    public var startThermalTimeoutS: Double

    public init(
        warmupIterations: Int, minIterations: Int, minDurationS: Double, maxDurationS: Double,
        sustainedDurationS: Double, loadRepeats: Int, cooldownS: Double, startWhenThermalAtMost: ThermalLevel,
        startThermalTimeoutS: Double
    ) {
        self.warmupIterations = warmupIterations
        self.minIterations = minIterations
        self.minDurationS = minDurationS
        self.maxDurationS = maxDurationS
        self.sustainedDurationS = sustainedDurationS
        self.loadRepeats = loadRepeats
        self.cooldownS = cooldownS
        self.startWhenThermalAtMost = startWhenThermalAtMost
        self.startThermalTimeoutS = startThermalTimeoutS
    }
}

/// What to measure.
public struct Workload: Codable, Sendable, Equatable {
    public var stages: [Stage]
    /// Numbers of valid prompt points; each is a case of its own.
    public var nPoints: [Int]
    /// Adds a case per matrix row in which the number of points changes at every call.
    public var varyPoints: Bool
    public var input: InputSource
    public var io: InputMemory
    public var outputBackings: Bool
    /// Overlapped predictions of the sustained run.
    public var concurrency: Int
    /// Starts per second; nil measures back to back.
    public var paceHz: Double?
}

/// What to record beside the samples.
public struct Collect: Codable, Sendable, Equatable {
    public var computePlan: Bool
    /// Environment samples per second; zero records none.
    public var timeseriesHz: Double
    public var parityOutputs: Bool
    public var parityInputs: [ParityInput]

    public init(computePlan: Bool, timeseriesHz: Double, parityOutputs: Bool, parityInputs: [ParityInput]) {
        self.computePlan = computePlan
        self.timeseriesHz = timeseriesHz
        self.parityOutputs = parityOutputs
        self.parityInputs = parityInputs
    }
}

/// A feed whose outputs the host compares with its own.
public struct ParityInput: Codable, Sendable, Equatable {
    public var stage: Stage
    /// Input name to path of an NPY file in the pushed folder.
    public var feed: [String: String]
    /// Folder of the outputs, below `outputs/<case>/` in the out folder.
    public var outputsDir: String

    public init(stage: Stage, feed: [String: String], outputsDir: String) {
        self.stage = stage
        self.feed = feed
        self.outputsDir = outputsDir
    }
}
