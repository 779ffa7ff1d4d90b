/// Everything measured: `result.json`.  Raw samples; statistics are the host's business.
public struct BenchResult: Codable, Sendable, Equatable {
    public var schemaVersion = benchSchemaVersion
    public var protocolVersion = benchProtocolVersion
    public var runId: String
    public var nonce: String
    /// ISO 8601, UTC.
    public var startedAt: String
    public var finishedAt: String
    public var app: AppDescription
    public var device: DeviceDescription
    public var models: [ModelDescription]
    public var cases: [CaseResult]
}

/// The program that measured.
public struct AppDescription: Codable, Sendable, Equatable {
    public var version: String
    /// `debug` or `release`.
    public var buildConfiguration: String
    public var debuggerAttached: Bool
    public var swiftVersion: String
    public var sdk: String?
    /// Built with the entitlement for more memory; nil where the program does not know.
    public var increasedMemory: Bool?

    public init(
        version: String, buildConfiguration: String, debuggerAttached: Bool, swiftVersion: String, sdk: String? = nil,
        increasedMemory: Bool? = nil
    ) {
        self.version = version
        self.buildConfiguration = buildConfiguration
        self.debuggerAttached = debuggerAttached
        self.swiftVersion = swiftVersion
        self.sdk = sdk
        self.increasedMemory = increasedMemory
    }
}

/// The machine that measured.
public struct DeviceDescription: Codable, Sendable, Equatable {
    public var productType: String
    public var marketingName: String
    public var hardwareModel: String?
    public var osVersion: String
    public var osBuild: String?
    /// Bytes.
    public var physicalMemory: Int
    public var activeCores: Int
    public var computeDevices: [ComputeDevice]

    public init(
        productType: String, marketingName: String, hardwareModel: String? = nil, osVersion: String,
        osBuild: String? = nil, physicalMemory: Int, activeCores: Int, computeDevices: [ComputeDevice] = []
    ) {
        self.productType = productType
        self.marketingName = marketingName
        self.hardwareModel = hardwareModel
        self.osVersion = osVersion
        self.osBuild = osBuild
        self.physicalMemory = physicalMemory
        self.activeCores = activeCores
        self.computeDevices = computeDevices
    }
}

/// A processor that Core ML can use.
public struct ComputeDevice: Codable, Sendable, Equatable {
    /// `cpu`, `gpu` or `ane`.
    public var kind: String
    public var aneCores: Int?

    public init(kind: String, aneCores: Int? = nil) {
        self.kind = kind
        self.aneCores = aneCores
    }
}

/// A measured model.
public struct ModelDescription: Codable, Sendable, Equatable {
    public var id: String
    public var role: ModelRole
    /// Digest of the package as pushed, verified before the run.
    public var sha256: String
    public var bytes: Int
    /// `mlpackage`, `mlmodelc` or `mlmodel`.
    public var packageType: String
    public var computePrecision: String?
    public var inputs: [TensorDescription]?
    public var outputs: [TensorDescription]?
}

/// A tensor or image at a model's border, as the loaded model describes it.
public struct TensorDescription: Codable, Sendable, Equatable {
    public var name: String
    public var shape: [Int]
    /// `fp16`, `fp32`, `int32`, `image` ...
    public var dtype: String

    public init(name: String, shape: [Int], dtype: String) {
        self.name = name
        self.shape = shape
        self.dtype = dtype
    }
}

/// What a loaded model says about itself.
public struct ModelInterface: Codable, Sendable, Equatable {
    public var inputs: [TensorDescription]
    public var outputs: [TensorDescription]
    public var computePrecision: String?

    public init(inputs: [TensorDescription], outputs: [TensorDescription], computePrecision: String? = nil) {
        self.inputs = inputs
        self.outputs = outputs
        self.computePrecision = computePrecision
    }
}
