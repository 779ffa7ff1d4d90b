import EdgeSAMDigest
import Foundation

/// One case from loading to its entry in the result.  Samples taken before a failure are kept.
struct CaseRun {
    let request: BenchRequest
    let plan: CasePlan
    let folders: RunFolders
    let models: [ModelRole: ModelFile]
    let context: RunContext
    let board: StatusBoard
    let monitor: EnvironmentMonitor

    private var result: CaseResult
    /// The step under way, for the stage of a failure.
    private var step = BenchPhase.compiling.rawValue
    private var history: LoadHistory

    init(
        request: BenchRequest, plan: CasePlan, folders: RunFolders, models: [ModelRole: ModelFile],
        context: RunContext, board: StatusBoard, monitor: EnvironmentMonitor, history: LoadHistory
    ) {
        self.request = request
        self.plan = plan
        self.folders = folders
        self.models = models
        self.context = context
        self.board = board
        self.monitor = monitor
        self.history = history
        result = CaseResult(plan, request: request, runtime: context.runner.runtime)
    }

    /// Runs the case.  Throws only when the whole run is interrupted.
    mutating func run() async throws -> (CaseResult, LoadHistory) {
        monitor.begin()
        do {
            try await measure()
        } catch {
            // Core ML reports a cancelled prediction with an error of its own.
            try Task.checkCancellation()
            let failure = BenchFailure.wrapping(error, stage: step)
            result.outcome = failure.code == ThermalGate.timeoutCode ? .timeout : .failed
            result.error = failure
        }
        for role in ModelRole.allCases { await context.runner.unload(role) }
        if let report = monitor.end() { result.note(report, schedule: request.schedule, app: context.app) }
        return (result, history)
    }

    private mutating func measure() async throws {
        try await compile()
        step = BenchPhase.waitingThermal.rawValue
        board.enter(.waitingThermal)
        try await ThermalGate(
            limit: request.schedule.startWhenThermalAtMost, timeoutS: request.schedule.startThermalTimeoutS,
            clock: context.clock, probe: context.probe
        ).wait()
        try await load()
        result.validity.minIterationsMet = true
        result.validity.minDurationMet = true
        let stages = request.workload.stages
        for stage in [Stage.encoder, .decoder] where stages.contains(stage) { try await time(stage) }
        try await sustain()
        try await collectParity()
        if stages.contains(.endToEnd) { try await time(.endToEnd) }
    }

    // MARK: Loading

    private mutating func compile() async throws {
        board.enter(.compiling)
        for role in request.roles {
            guard let model = models[role] else { continue }
            var isNew = false
            let elapsed = try await context.clock.milliseconds { isNew = try await context.runner.compile(model) }
            if isNew {
                result.compileMs[role] = elapsed
                history.noteCompiled(role)
            }
        }
    }

    private mutating func load() async throws {
        step = BenchPhase.loading.rawValue
        board.enter(.loading)
        result.load.freshlyInstalled = history.isFresh(request.roles, units: plan.units, hints: plan.hints)
        for role in request.roles {
            var times = LoadTimes.Times(firstMs: try await load(role), repeatsMs: [])
            for _ in 0..<request.schedule.loadRepeats {
                await context.runner.unload(role)
                times.repeatsMs.append(try await load(role))
                board.count(nil)
            }
            result.load[role] = times
            history.noteInterface(try await context.runner.interface(of: role), of: role)
        }
        guard request.collect.computePlan else { return }
        step = "compute_plan"
        var plans = PerRole<ComputePlanSummary>()
        for role in request.roles { plans[role] = try await context.runner.computePlan(of: role) }
        result.computePlan = plans
    }

    private func load(_ role: ModelRole) async throws -> Double {
        guard let model = models[role] else { return 0 }
        return try await context.clock.milliseconds {
            try await context.runner.load(model, units: plan.units[role], hints: plan.hints)
        }
    }

    // MARK: Timing

    private mutating func time(_ stage: Stage) async throws {
        step = stage.rawValue
        board.enter(.warming)
        try await context.runner.prepare(stage, try inputs(for: stage))
        let timer = StageTimer(
            schedule: request.schedule, paceHz: request.workload.paceHz, clock: context.clock, board: board)
        var honoured: Bool?
        let first = try await context.runner.predict(stage, nPoints: points(stage, call: 0))
        if stage != .endToEnd, let role = stage.roles.first {
            result.firstPredictionMs[role] = Double(first.durationNs) / 1e6
        }
        let (runner, plan) = (context.runner, plan)
        let measured = try await timer.measure { call in
            let points = stage == .decoder ? plan.points(atCall: call) : plan.nPoints
            let prediction = try await runner.predict(stage, nPoints: points)
            if let written = prediction.backingsHonoured { honoured = written && (honoured ?? true) }
            return prediction.durationNs
        }
        result.stages[stage.rawValue] = measured.samples
        if !measured.isWarm {
            result.validity.circumstances.append(Circumstance(.unsteadyWarmup, detail: stage.rawValue))
        }
        if !measured.minIterationsMet { result.validity.minIterationsMet = false }
        if !measured.minDurationMet { result.validity.minDurationMet = false }
        if let honoured, let role = stage.roles.first { result.note(backingsHonoured: honoured, role: role) }
        if stage == .decoder { result.shapeSwitchMs = shapeSwitch(measured.samples.samplesNs) }
        monitor.tick()
    }

    private func points(_ stage: Stage, call: Int) -> Int {
        stage == .decoder ? plan.points(atCall: call) : plan.nPoints
    }

    /// The calls in which the largest number of points follows the one that comes before it in the round.
    private func shapeSwitch(_ samples: [UInt64]) -> ShapeSwitch? {
        guard let varying = plan.varying, let position = varying.firstIndex(of: plan.nPoints) else { return nil }
        let before = varying[(position + varying.count - 1) % varying.count]
        let picked = samples.enumerated().filter { $0.offset > 0 && $0.offset % varying.count == position }
        return ShapeSwitch(from: before, to: plan.nPoints, samplesNs: picked.map(\.element))
    }

    private func inputs(for stage: Stage) throws -> InputPlan {
        var feed: [String: URL] = [:]
        if request.workload.input == .file {
            let named = request.collect.parityInputs.enumerated().first { $0.element.stage == stage }
            if let (index, parity) = named {
                feed = try files(of: parity, index: index)
            } else if stage != .endToEnd {
                throw BenchFailure(
                    stage: stage.rawValue, code: "no_input_file",
                    message: "workload.input is 'file' but no parity input names files for \(stage.rawValue)")
            }
        }
        return InputPlan(
            memory: request.workload.io, outputBackings: request.workload.outputBackings,
            nPoints: plan.varying ?? [plan.nPoints], workers: request.workload.concurrency, feed: feed,
            models: models, units: plan.units, hints: plan.hints)
    }

    private mutating func sustain() async throws {
        let stages = [Stage.encoder, .decoder].filter(request.workload.stages.contains)
        guard request.schedule.sustainedDurationS > 0, plan.varying == nil, !stages.isEmpty else { return }
        step = "sustained"
        board.enter(.running)
        let (runner, points, start) = (context.runner, plan.nPoints, context.clock.nowNs)
        var sustained = try await SustainedRun(
            durationS: request.schedule.sustainedDurationS, workers: request.workload.concurrency,
            paceHz: request.workload.paceHz, clock: context.clock, board: board
        ).run { worker in try await runner.frame(stages, nPoints: points, worker: worker) }
        monitor.tick()
        sustained.thermalSeries = monitor.thermalSeries(since: start)
        result.sustained = sustained
    }

    // MARK: Parity

    private mutating func collectParity() async throws {
        guard request.collect.parityOutputs, plan.varying == nil else { return }
        step = "parity"
        var written: [ParityOutput] = []
        for (index, parity) in request.collect.parityInputs.enumerated() {
            guard let role = parity.stage.roles.first, request.roles.contains(role) else { continue }
            let outputs = try await context.runner.outputs(of: role, feed: try files(of: parity, index: index))
            let slug = plan.id.replacing("/", with: "_")
            let folder = "outputs/\(slug)/\(parity.outputsDir)"
            try context.store.createFolder(folders.output.appending(path: folder))
            for output in outputs {
                let file = "\(folder)/\(output.name.replacing("/", with: "_")).npy"
                try context.store.writeAtomically(output.npy, to: folders.output.appending(path: file))
                written.append(
                    ParityOutput(
                        stage: parity.stage, name: output.name, file: file, sha256: SHA256.hexDigest(of: output.npy)))
            }
            result.parityOutputs = written
        }
    }

    private func files(of parity: ParityInput, index: Int) throws -> [String: URL] {
        var files: [String: URL] = [:]
        for (name, path) in parity.feed {
            files[name] = try RelativePath.resolve(
                path, in: folders.input, store: context.store, field: "collect.parity_inputs[\(index)].feed.\(name)")
        }
        return files
    }
}

extension CaseResult {
    /// An entry without measurements.
    init(_ plan: CasePlan, request: BenchRequest, runtime: String) {
        self.init(
            id: plan.id, runtime: runtime, computeUnits: plan.units, hints: plan.hints, io: request.workload.io,
            concurrency: request.workload.concurrency, nPoints: plan.nPoints, varyPoints: plan.varying != nil)
    }

    fileprivate mutating func note(backingsHonoured honoured: Bool, role: ModelRole) {
        var perRole = backingsHonoured ?? PerRole()
        perRole[role] = honoured
        backingsHonoured = perRole
    }

    /// Copies the environment and notes what speaks against the samples.
    fileprivate mutating func note(_ report: EnvironmentMonitor.Report, schedule: Schedule, app: AppDescription) {
        environment = report.environment
        memory = report.memory
        timeToFairS = report.timeToFairS
        timeToSeriousS = report.timeToSeriousS
        let highest = report.highestThermal ?? .nominal
        validity.throttled = highest >= .serious || highest > schedule.startWhenThermalAtMost
        validity.lowPower = report.wasLowPower
        validity.backgrounded = report.wasBackgrounded
        validity.debugBuild = app.buildConfiguration == "debug"
        var found: [Circumstance] = []
        if validity.throttled { found.append(Circumstance(.throttled, detail: highest.rawValue)) }
        if validity.lowPower { found.append(Circumstance(.lowPower)) }
        if validity.backgrounded { found.append(Circumstance(.backgrounded)) }
        if validity.debugBuild { found.append(Circumstance(.debugBuild)) }
        if app.debuggerAttached { found.append(Circumstance(.debuggerAttached)) }
        if outcome == .passed, !validity.minIterationsMet { found.append(Circumstance(.fewIterations)) }
        if outcome == .passed, !validity.minDurationMet { found.append(Circumstance(.shortDuration)) }
        validity.circumstances += found
    }
}
