import Foundation

/// Compiles, loads and runs models; everything that needs a machine-learning framework is behind it.
///
/// One call at a time, but for `frame`, which overlaps with itself.
public protocol ModelRunner: Sendable {
    /// Name of the framework for the result: `coreml` or `coreml_stand_in`.
    var runtime: String { get }

    /// Makes the compiled form of a model, at a path that later runs find again; false where it was there already.
    func compile(_ model: ModelFile) async throws -> Bool

    /// Loads a compiled model instead of the loaded one of the same role.
    func load(_ model: ModelFile, units: ComputeUnitsChoice, hints: Hints) async throws

    /// Lets go of a loaded model.
    func unload(_ role: ModelRole) async

    /// What a loaded model says about itself.
    func interface(of role: ModelRole) async throws -> ModelInterface

    /// Makes everything that predictions of a stage need, so that nothing is allocated while timing.
    ///
    /// For ``Stage/endToEnd`` the models loaded before may be released.
    func prepare(_ stage: Stage, _ inputs: InputPlan) async throws

    /// One prediction; only the call of the framework is timed, and an output is looked at afterwards.
    func predict(_ stage: Stage, nPoints: Int) async throws -> Prediction

    /// One frame of the sustained run: the stages one after the other, asynchronously.
    ///
    /// `worker` counts from zero; frames of one worker never overlap.
    func frame(_ stages: [Stage], nPoints: Int, worker: Int) async throws

    /// Where the framework would run a loaded model; nil where it does not tell.
    func computePlan(of role: ModelRole) async throws -> ComputePlanSummary?

    /// The outputs for values from files.
    func outputs(of role: ModelRole, feed: [String: URL]) async throws -> [OutputArray]
}

/// A model whose files have been verified.
public struct ModelFile: Sendable, Equatable {
    public let id: String
    public let role: ModelRole
    public let url: URL
    public let sha256: String
    public let bytes: Int

    public init(id: String, role: ModelRole, url: URL, sha256: String, bytes: Int) {
        self.id = id
        self.role = role
        self.url = url
        self.sha256 = sha256
        self.bytes = bytes
    }
}

/// What inputs and outputs a stage needs.
public struct InputPlan: Sendable, Equatable {
    public var memory: InputMemory
    public var outputBackings: Bool
    /// All numbers of points that predictions will ask for.
    public var nPoints: [Int]
    /// Overlapped frames.
    public var workers: Int
    /// Input name to NPY file; empty for random values.
    public var feed: [String: URL]
    public var models: [ModelRole: ModelFile]
    public var units: UnitsPerRole
    public var hints: Hints

    public init(
        memory: InputMemory, outputBackings: Bool, nPoints: [Int], workers: Int, feed: [String: URL],
        models: [ModelRole: ModelFile], units: UnitsPerRole, hints: Hints
    ) {
        self.memory = memory
        self.outputBackings = outputBackings
        self.nPoints = nPoints
        self.workers = workers
        self.feed = feed
        self.models = models
        self.units = units
        self.hints = hints
    }
}

/// A timed prediction.
public struct Prediction: Sendable, Equatable {
    public var durationNs: UInt64
    /// Whether the framework wrote every output into the memory offered; nil where none was.
    public var backingsHonoured: Bool?

    public init(durationNs: UInt64, backingsHonoured: Bool? = nil) {
        self.durationNs = durationNs
        self.backingsHonoured = backingsHonoured
    }
}

/// An output as a file's content.
public struct OutputArray: Sendable, Equatable {
    public var name: String
    public var npy: Data

    public init(name: String, npy: Data) {
        self.name = name
        self.npy = npy
    }
}
