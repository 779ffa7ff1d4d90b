import EdgeSAMDigest
import Foundation

/// A whole run: request to result, with the heartbeat beside it.
public final class BenchRun: Sendable {
    /// Called after every writing of the status, from any thread, with the duration of the latest prediction.
    public typealias Observer = @Sendable (BenchStatus, _ lastSampleNs: UInt64?) -> Void

    /// How often the heartbeat looks, and how old a status must be to be written again: at most every 0.8 s, which
    /// leaves room for a late thread within the second that is promised.
    static let lookS = 0.4
    static let renewS = 0.6

    private let folders: RunFolders
    private let context: RunContext
    private let observer: Observer
    private let live: Locked<(board: StatusBoard?, monitor: EnvironmentMonitor?)> = Locked((nil, nil))

    public init(_ folders: RunFolders, context: RunContext, observer: @escaping Observer = { _, _ in }) {
        self.folders = folders
        self.context = context
        self.observer = observer
    }

    /// Runs every case that is not finished yet and writes the result.
    ///
    /// - Throws: ``BenchFailure``, after it has been written into the status.
    public func run() async throws -> BenchResult {
        try context.store.createFolder(folders.output)
        let data: Data
        do {
            data = try context.store.read(folders.request, limit: RequestReader.sizeLimit)
        } catch {
            throw BenchFailure.wrapping(error, stage: BenchPhase.received.rawValue)
        }
        let earlier = earlierStatus()
        let board = makeBoard(identity: RequestReader.identity(from: data), earlier: earlier)
        live.with { $0.board = board }
        do {
            return try await run(data, board: board, earlier: earlier)
        } catch {
            let failure = BenchFailure.wrapping(error, stage: BenchPhase.writing.rawValue)
            board.fail(failure)
            throw failure
        }
    }

    /// Passes on an event that only the app hears of.
    public func note(_ event: BenchEvent) { live.with { $0.monitor }?.note(event) }

    /// Writes the last status of a run that is ended from outside.  Finished cases are on disk already.
    public func interrupt() {
        live.with { $0.board }?.fail(
            BenchFailure(
                stage: "run", code: "interrupted", message: "the run was ended from outside",
                hint: "start the same run again: finished cases are kept"))
    }

    // MARK: Steps

    private func run(_ data: Data, board: StatusBoard, earlier: BenchStatus?) async throws -> BenchResult {
        board.enter(.received)
        let request = try RequestReader.request(from: data)
        guard request.runId == folders.runID else {
            throw RequestFault.value("run_id", "'\(request.runId)' lies in the folder of run '\(folders.runID)'")
        }
        let monitor = EnvironmentMonitor(
            probe: context.probe, clock: context.clock, seriesHz: request.collect.timeseriesHz)
        live.with { $0.monitor = monitor }
        let series = request.collect.timeseriesHz
        let interval = series > 0 ? min(Self.lookS, 1 / series) : Self.lookS
        let stop = context.heartbeat.start(intervalS: interval) {
            monitor.tick()
            board.beat(ifOlderThan: Self.renewS)
        }
        defer { stop() }
        let started = context.clock.date
        let models = try verified(request)
        let plans = CasePlan.all(for: request)
        var finished = try FinishedCases(file: folders.partial, planned: plans, store: context.store)
        try keepCrash(earlier, request: request, plans: plans, in: &finished)
        let history = try await runCases(
            plans, request: request, models: models, finished: &finished, board: board, monitor: monitor)
        board.enter(.writing)
        let result = BenchResult(
            runId: request.runId, nonce: request.nonce, startedAt: BenchJSON.timestamp(started),
            finishedAt: BenchJSON.timestamp(context.clock.date), app: context.app, device: context.device,
            models: request.models.compactMap { models[$0.role]?.description(history.interfaces[$0.role]) },
            cases: plans.compactMap { finished.byID[$0.id] })
        let document = try BenchJSON.document(result)
        try context.store.writeAtomically(document, to: folders.result)
        board.finish(
            ResultReference(
                file: folders.result.lastPathComponent, bytes: document.count,
                sha256: SHA256.hexDigest(of: document)))
        RunFolders.removeAnswered(
            in: folders.output.deletingLastPathComponent(), store: context.store)
        return result
    }

    private func runCases(
        _ plans: [CasePlan], request: BenchRequest, models: [ModelRole: ModelFile], finished: inout FinishedCases,
        board: StatusBoard, monitor: EnvironmentMonitor
    ) async throws -> LoadHistory {
        var history = LoadHistory()
        var isFirst = true
        board.enter(caseIndex: nil, of: plans.count)
        for (index, plan) in plans.enumerated() where finished.byID[plan.id] == nil {
            board.enter(caseIndex: index, of: plans.count)
            if !isFirst, request.schedule.cooldownS > 0 {
                board.enter(.cooling)
                try await context.clock.sleep(seconds: request.schedule.cooldownS)
            }
            isFirst = false
            var next = CaseRun(
                request: request, plan: plan, folders: folders, models: models, context: context, board: board,
                monitor: monitor, history: history)
            let result: CaseResult
            (result, history) = try await next.run()
            try finished.add(result)
        }
        return history
    }

    /// The models of the request, inside the pushed folder and with the bytes that the host announced.
    private func verified(_ request: BenchRequest) throws -> [ModelRole: ModelFile] {
        var files: [ModelRole: ModelFile] = [:]
        for (index, model) in request.models.enumerated() {
            let field = "models[\(index)]"
            let url = try RelativePath.resolve(
                model.relativePath, in: folders.input, store: context.store, field: "\(field).relative_path")
            let digest = try TreeDigest.of(url, in: context.store)
            guard digest.sha256 == model.sha256Tree else {
                throw BenchFailure(
                    stage: BenchPhase.received.rawValue, code: "sha256",
                    message: "\(field): '\(model.relativePath)' has SHA-256 \(digest.sha256), the request says "
                        + model.sha256Tree,
                    hint: "the files arrived damaged or incomplete; push the run again under a new id")
            }
            files[model.role] = ModelFile(
                id: model.id, role: model.role, url: url, sha256: digest.sha256, bytes: digest.bytes)
        }
        return files
    }

    // MARK: Earlier attempts

    private func earlierStatus() -> BenchStatus? {
        guard let data = try? context.store.read(folders.status, limit: RequestReader.sizeLimit) else { return nil }
        return try? BenchJSON.decode(BenchStatus.self, from: data)
    }

    /// A case in whose midst the process ended without a word is kept as crashed: it would end the next one too.
    private func keepCrash(
        _ earlier: BenchStatus?, request: BenchRequest, plans: [CasePlan], in finished: inout FinishedCases
    ) throws {
        let dangerous: [BenchPhase] = [.compiling, .loading, .warming, .running]
        guard let earlier, earlier.nonce == request.nonce, dangerous.contains(earlier.phase),
            let index = earlier.caseIndex, plans.indices.contains(index), finished.byID[plans[index].id] == nil
        else { return }
        var result = CaseResult(plans[index], request: request, runtime: context.runner.runtime)
        result.outcome = .crashed
        result.error = BenchFailure(
            stage: earlier.phase.rawValue, code: "crashed",
            message: "the runner ended in phase '\(earlier.phase.rawValue)' of this case, after "
                + "\(earlier.iteration ?? 0) predictions",
            hint: "look for a crash report or a lack of memory")
        try finished.add(result)
    }

    private func makeBoard(identity: RequestReader.Identity, earlier: BenchStatus?) -> StatusBoard {
        let status = BenchStatus(
            runId: folders.runID, nonce: identity.nonce ?? RunIdentifier.unknownNonce, seq: max(earlier?.seq ?? 0, 0),
            uptimeS: 0, phase: .received, appVersion: context.app.version,
            buildConfiguration: context.app.buildConfiguration)
        return StatusBoard(
            status, file: folders.status, store: context.store, clock: context.clock, probe: context.probe,
            observer: observer)
    }
}

extension ModelFile {
    func description(_ interface: ModelInterface?) -> ModelDescription {
        ModelDescription(
            id: id, role: role, sha256: sha256, bytes: bytes, packageType: url.pathExtension,
            computePrecision: interface?.computePrecision, inputs: interface?.inputs, outputs: interface?.outputs)
    }
}
