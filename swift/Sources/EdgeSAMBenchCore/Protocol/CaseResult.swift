/// One finished case: a line of `partial.ndjson` and an entry of `result.json`.
public struct CaseResult: Codable, Sendable, Equatable {
    public var id: String
    /// `coreml`, or `coreml_stand_in` where a stand-in answers.
    public var runtime: String
    public var computeUnits: UnitsPerRole
    public var hints: Hints
    public var io: InputMemory
    public var concurrency: Int
    public var nPoints: Int
    public var varyPoints: Bool
    public var compileMs = PerRole<Double>()
    public var load = LoadTimes()
    public var firstPredictionMs = PerRole<Double>()
    /// By the stage's name.
    public var stages: [String: StageSamples] = [:]
    public var shapeSwitchMs: ShapeSwitch?
    public var sustained: Sustained?
    public var backingsHonoured: PerRole<Bool>?
    public var computePlan: PerRole<ComputePlanSummary>?
    public var memory: MemoryUse?
    public var timeToFairS: Double?
    public var timeToSeriousS: Double?
    public var environment: CaseEnvironment?
    public var parityOutputs: [ParityOutput]?
    public var validity = Validity()
    public var outcome = CaseOutcome.passed
    public var error: BenchFailure?
}

/// A value for each model that took part.
public struct PerRole<Value: Codable & Sendable & Equatable>: Codable, Sendable, Equatable {
    public var encoder: Value?
    public var decoder: Value?

    public init(encoder: Value? = nil, decoder: Value? = nil) {
        self.encoder = encoder
        self.decoder = decoder
    }

    public subscript(role: ModelRole) -> Value? {
        get { role == .encoder ? encoder : decoder }
        set {
            switch role {
            case .encoder: encoder = newValue
            case .decoder: decoder = newValue
            }
        }
    }
}

/// How long the models took to load.
public struct LoadTimes: Codable, Sendable, Equatable {
    /// First load in the case, and loads after unloading it again.
    public struct Times: Codable, Sendable, Equatable {
        public var firstMs: Double
        public var repeatsMs: [Double]
    }

    public var encoder: Times?
    public var decoder: Times?
    /// True only where this install had neither compiled these models before nor loaded them for these units.
    public var freshlyInstalled = false

    subscript(role: ModelRole) -> Times? {
        get { role == .encoder ? encoder : decoder }
        set {
            switch role {
            case .encoder: encoder = newValue
            case .decoder: decoder = newValue
            }
        }
    }
}

/// A stage's raw samples, in the order in which they were taken.
public struct StageSamples: Codable, Sendable, Equatable {
    public var warmupN: Int
    public var warmupNs: [UInt64]
    public var samplesNs: [UInt64]
}

/// Decoder calls whose number of points differs from that of the call before.
public struct ShapeSwitch: Codable, Sendable, Equatable {
    public var from: Int
    public var to: Int
    public var samplesNs: [UInt64]
}

/// Frames finished within a window, with overlapped predictions.
public struct Sustained: Codable, Sendable, Equatable {
    /// Wall time, seconds.
    public var windowS: Double
    public var frames: Int
    public var thermalSeries: [ThermalPoint]?
}

/// Thermal state at a time.
public struct ThermalPoint: Codable, Sendable, Equatable {
    /// Since the start of the window.
    public var tS: Double
    public var thermal: ThermalLevel
}

/// Where Core ML says it will run a model; anticipated, not measured.
public struct ComputePlanSummary: Codable, Sendable, Equatable {
    public struct Preferred: Codable, Sendable, Equatable {
        public var ane = 0
        public var gpu = 0
        public var cpu = 0
        public var unknown = 0

        public init() {}
    }

    public struct OperationCount: Codable, Sendable, Equatable {
        public var type: String
        public var count: Int

        public init(type: String, count: Int) {
            self.type = type
            self.count = count
        }
    }

    /// Constants not counted.
    public var opsTotal: Int
    public var preferred: Preferred
    public var supportedAne: Int
    /// Share of the estimated cost that falls to the Neural Engine, 0 to 1.
    public var aneCostShare: Double?
    public var notAneOps: [OperationCount]

    public init(
        opsTotal: Int, preferred: Preferred, supportedAne: Int, aneCostShare: Double?, notAneOps: [OperationCount]
    ) {
        self.opsTotal = opsTotal
        self.preferred = preferred
        self.supportedAne = supportedAne
        self.aneCostShare = aneCostShare
        self.notAneOps = notAneOps
    }
}

/// Bytes of memory that the process used.
public struct MemoryUse: Codable, Sendable, Equatable {
    public var footprintBefore: Int?
    public var footprintPeak: Int?
    public var footprintAfter: Int?
    public var availableMin: Int?
}

/// An output that the host compares.
public struct ParityOutput: Codable, Sendable, Equatable {
    public var stage: Stage
    public var name: String
    /// NPY, relative to the out folder.
    public var file: String
    public var sha256: String

    public init(stage: Stage, name: String, file: String, sha256: String) {
        self.stage = stage
        self.name = name
        self.file = file
        self.sha256 = sha256
    }
}

/// Whether the samples may be believed, and what speaks against it.
public struct Validity: Codable, Sendable, Equatable {
    public var minIterationsMet = false
    public var minDurationMet = false
    public var throttled = false
    public var lowPower = false
    public var debugBuild = false
    public var backgrounded = false
    public var circumstances: [Circumstance] = []
    /// The circumstances in words, which the host writes: empty here, and asked for by version 1 of the schema.
    public var reasons: [String] = []
}
