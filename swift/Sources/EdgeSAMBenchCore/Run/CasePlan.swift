/// One case to run: a matrix row with a number of points.
struct CasePlan: Sendable, Equatable {
    let id: String
    let units: UnitsPerRole
    let hints: Hints
    let nPoints: Int
    /// Numbers of points that the decoder's calls go through; nil where all calls have `nPoints`.
    let varying: [Int]?

    /// The request's cases in the order in which they run.
    ///
    /// With `vary_points` each matrix row gets one more case, which goes round through all of `n_points`; a single
    /// number takes turns with one point less, or with two points where the number is one.
    static func all(for request: BenchRequest) -> [CasePlan] {
        let counts = request.workload.nPoints
        return request.matrix.flatMap { row in
            var plans = counts.map { CasePlan(row: row, nPoints: $0, varying: nil) }
            if request.workload.varyPoints, let first = counts.first, request.workload.stages.contains(.decoder) {
                let largest = counts.max() ?? first
                let varying = counts.count > 1 ? counts : [first, first > 1 ? first - 1 : 2]
                plans.append(CasePlan(row: row, nPoints: largest, varying: varying))
            }
            return plans
        }
    }

    private init(row: MatrixRow, nPoints: Int, varying: [Int]?) {
        units = row.computeUnits
        hints = row.hints ?? Hints()
        self.nPoints = nPoints
        self.varying = varying
        var parts = [units.encoder.rawValue, units.decoder.rawValue]
        if let frequency = hints.reshapeFrequency { parts.append("reshape_\(frequency.rawValue)") }
        if let strategy = hints.specializationStrategy { parts.append("specialize_\(strategy.rawValue)") }
        parts.append("n\(nPoints)")
        if varying != nil { parts.append("vary") }
        id = parts.joined(separator: "/")
    }

    /// Number of points of the decoder's call number `index`, counted from zero.
    func points(atCall index: Int) -> Int {
        guard let varying else { return nPoints }
        return varying[index % varying.count]
    }
}
