/// Limits and cross-checks of a request that has the right types.
enum RequestChecks {
    static let daySeconds = 86_400.0

    static func check(_ request: BenchRequest) throws {
        guard RunIdentifier.isValid(request.runId) else {
            throw RequestFault.value("run_id", "'\(request.runId.prefix(64))' is not a lower-case UUID")
        }
        guard RunIdentifier.isNonce(request.nonce) else {
            throw RequestFault.value("nonce", "expected 32 lower-case hexadecimal digits")
        }
        try check(request.models, roles: request.roles)
        try check(request.schedule)
        try check(request.workload)
        try check(request.collect, input: request.workload.input)
        try count("matrix", request.matrix.count, 1...256)
        try checkUnique(CasePlan.all(for: request).map(\.id))
    }

    private static func check(_ models: [ModelRequest], roles: [ModelRole]) throws {
        try count("models", models.count, 1...64)
        for role in ModelRole.allCases {
            let found = models.filter { $0.role == role }.count
            if roles.contains(role), found == 0 {
                throw RequestFault.value("models", "the stages need a model with role '\(role.rawValue)'")
            }
            if found > 1 { throw RequestFault.value("models", "\(found) models have role '\(role.rawValue)'") }
        }
        for (index, model) in models.enumerated() {
            let field = "models[\(index)]"
            try count("\(field).id's length", model.id.utf8.count, 1...200)
            if let fault = RelativePath.fault(in: model.relativePath) {
                throw RequestFault.value("\(field).relative_path", "'\(model.relativePath.prefix(512))' \(fault)")
            }
            guard RunIdentifier.isSHA256(model.sha256Tree) else {
                throw RequestFault.value("\(field).sha256_tree", "expected 64 lower-case hexadecimal digits")
            }
        }
    }

    private static func check(_ schedule: Schedule) throws {
        try count("schedule.warmup_iterations", schedule.warmupIterations, 0...100_000)
        try count("schedule.min_iterations", schedule.minIterations, 1...1_000_000)
        try count("schedule.load_repeats", schedule.loadRepeats, 0...1000)
        try seconds("schedule.min_duration_s", schedule.minDurationS)
        try seconds("schedule.max_duration_s", schedule.maxDurationS)
        try seconds("schedule.sustained_duration_s", schedule.sustainedDurationS)
        try seconds("schedule.cooldown_s", schedule.cooldownS)
        try seconds("schedule.start_thermal_timeout_s", schedule.startThermalTimeoutS)
        guard schedule.maxDurationS > 0, schedule.maxDurationS >= schedule.minDurationS else {
            throw RequestFault.value(
                "schedule.max_duration_s",
                "\(schedule.maxDurationS) s must be above 0 and not below min_duration_s \(schedule.minDurationS) s")
        }
    }

    private static func check(_ workload: Workload) throws {
        try count("workload.stages", workload.stages.count, 1...Stage.allCases.count)
        guard Set(workload.stages).count == workload.stages.count else {
            throw RequestFault.value("workload.stages", "a stage is named twice")
        }
        try count("workload.n_points", workload.nPoints.count, 1...64)
        for points in workload.nPoints { try count("workload.n_points", points, 1...64) }
        try count("workload.concurrency", workload.concurrency, 1...64)
        if let pace = workload.paceHz, !(pace > 0 && pace <= 1000) {
            throw RequestFault.value("workload.pace_hz", "\(pace) is not above 0 and at most 1000")
        }
    }

    private static func check(_ collect: Collect, input: InputSource) throws {
        guard collect.timeseriesHz >= 0, collect.timeseriesHz <= 100 else {
            throw RequestFault.value("collect.timeseries_hz", "\(collect.timeseriesHz) is not within 0 to 100")
        }
        try count("collect.parity_inputs", collect.parityInputs.count, 0...256)
        if input == .file, collect.parityInputs.isEmpty {
            throw RequestFault.value("workload.input", "'file' needs collect.parity_inputs to name the files")
        }
        for (index, parity) in collect.parityInputs.enumerated() {
            let field = "collect.parity_inputs[\(index)]"
            if parity.stage == .endToEnd {
                throw RequestFault.value("\(field).stage", "'end_to_end' has no feed; use encoder or decoder")
            }
            try count("\(field).feed", parity.feed.count, 1...64)
            let paths = parity.feed.map { ("\(field).feed.\($0.key)", $0.value) }
            for (location, path) in paths + [("\(field).outputs_dir", parity.outputsDir)] {
                if let fault = RelativePath.fault(in: path) {
                    throw RequestFault.value(location, "'\(path.prefix(512))' \(fault)")
                }
            }
        }
    }

    private static func checkUnique(_ ids: [String]) throws {
        var seen = Set<String>()
        for id in ids where !seen.insert(id).inserted {
            throw RequestFault.value("matrix", "case '\(id)' appears twice; matrix rows and n_points must differ")
        }
    }

    private static func count(_ field: String, _ value: Int, _ range: ClosedRange<Int>) throws {
        guard range.contains(value) else {
            throw RequestFault.value(field, "\(value) is not within \(range.lowerBound) to \(range.upperBound)")
        }
    }

    private static func seconds(_ field: String, _ value: Double) throws {
        guard value >= 0, value <= daySeconds else {
            throw RequestFault.value(field, "\(value) s is not within 0 to \(Int(daySeconds)) s")
        }
    }
}
