/// Sends requests to one Python process, one after the other; starts it when it is first needed, and again after it
/// ended.  Models of a process that ended are lost.
///
/// `EDGESAM_PYTHON` names the Python, which must have edgesam-export; otherwise it is `python3`.
final class ModelService: @unchecked Sendable {  // `process` and what belongs to it are only used on `queue`
    /// A model in the Python process of one generation.
    struct Handle: Sendable {
        let generation: Int
        let number: Int
    }

    struct Reply<Answer: Decodable & Sendable>: Sendable {
        let answer: Answer
        let payload: Data
        let generation: Int
    }

    static let shared = ModelService()

    private let queue = DispatchQueue(label: "edgesam.coreml-stand-in")
    private let executable: String
    private let arguments: [String]
    private var process: PythonProcess?
    private var generation = 0
    private var lastRequest = 0
    private var lastFailure = "the Python process ended"

    init(
        executable: String = ProcessInfo.processInfo.environment["EDGESAM_PYTHON"] ?? "python3",
        arguments: [String] = ["-m", "edgesam_export.mil.coreml_service"]
    ) {
        self.executable = executable
        self.arguments = arguments
    }

    /// The process that is running, for tests that end it.
    var processIdentifier: pid_t? { queue.sync { process?.identifier } }

    /// Sends a request and waits for its answer.  With `generation` only the process of that generation will do.
    func call<Answer: Decodable & Sendable>(
        _ request: ServiceRequest, payload: Data = Data(), generation: Int? = nil, answer: Answer.Type = Answer.self
    ) throws -> Reply<Answer> {
        try queue.sync { try perform(request, payload: payload, generation: generation) }
    }

    /// As the other, without holding a thread of Swift's pool.
    func call<Answer: Decodable & Sendable>(
        _ request: ServiceRequest, payload: Data = Data(), generation: Int? = nil, answer: Answer.Type = Answer.self
    ) async throws -> Reply<Answer> {
        try await withCheckedThrowingContinuation { continuation in
            queue.async {
                continuation.resume(
                    with: Result { try self.perform(request, payload: payload, generation: generation) })
            }
        }
    }

    /// Forgets a model; does not wait.  Nothing can be done about a failure, and a lost model is gone anyway.
    func unload(_ handle: Handle) {
        queue.async {
            guard self.process != nil, handle.generation == self.generation else { return }
            let request = ServiceRequest(method: "unload", handle: handle.number)
            let _: Reply<EmptyAnswer>? = try? self.perform(request, payload: Data(), generation: handle.generation)
        }
    }

    private func perform<Answer: Decodable & Sendable>(
        _ request: ServiceRequest, payload: Data, generation wanted: Int?
    ) throws -> Reply<Answer> {
        if let wanted, wanted != generation || process == nil {
            throw MLModelError(.generic, message: "the model is lost, load it again: \(lastFailure)")
        }
        do {
            let process = try running()
            lastRequest += 1
            var request = request
            request.id = lastRequest
            request.payloadBytes = payload.count
            let (header, data) = try process.exchange(header: try JSONEncoder().encode(request), payload: payload)
            let envelope = try JSONDecoder().decode(ServiceEnvelope.self, from: header)
            guard envelope.id == lastRequest else {
                throw PythonProcess.Failure(reason: "the Python process answered another request", standardError: "")
            }
            guard envelope.ok else {
                let message = envelope.error?.message ?? "the Python process gave no reason"
                throw MLModelError(request.method == "predict" ? .generic : .io, message: message)
            }
            let answer = try JSONDecoder().decode(Answer.self, from: header)
            return Reply(answer: answer, payload: data, generation: generation)
        } catch let failure as PythonProcess.Failure {
            process = nil
            lastFailure = failure.reason
            throw MLModelError(.generic, message: failure.reason, reason: failure.standardError)
        }
    }

    private func running() throws -> PythonProcess {
        if let process { return process }
        let started = try PythonProcess(executable: executable, arguments: arguments)
        process = started
        generation += 1
        return started
    }
}
