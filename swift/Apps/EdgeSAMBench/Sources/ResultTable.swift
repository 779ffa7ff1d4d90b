import EdgeSAMBenchCore

/// The finished result as rows.  Shows raw samples only: statistics are the host's business.
struct ResultTable: Equatable {
    struct Row: Equatable, Identifiable {
        /// The stage's name.
        var id: String
        var lastNs: UInt64?
        var lowestNs: UInt64?
        var sampleCount: Int
    }

    struct Case: Equatable, Identifiable {
        /// Position in the document: a repeated case keeps its name.
        var id: Int
        var name: String
        var outcome: CaseOutcome
        var rows: [Row]
        /// What went wrong, or what speaks against the samples.
        var remarks: [String]
    }

    var cases: [Case]

    init(_ result: BenchResult) {
        cases = result.cases.enumerated().map { index, measured in
            Case(
                id: index, name: measured.id, outcome: measured.outcome,
                rows: Self.rows(of: measured.stages),
                remarks: Self.remarks(on: measured))
        }
    }

    private static func rows(of stages: [String: StageSamples]) -> [Row] {
        let known = Stage.allCases.map(\.rawValue)
        let names = known.filter { stages[$0] != nil } + stages.keys.filter { !known.contains($0) }.sorted()
        return names.map { name in
            let samples = stages[name]?.samplesNs ?? []
            return Row(id: name, lastNs: samples.last, lowestNs: samples.min(), sampleCount: samples.count)
        }
    }

    private static func remarks(on measured: CaseResult) -> [String] {
        let failure = measured.error.map { [$0.message] + ($0.hint.map { [$0] } ?? []) } ?? []
        return failure + measured.validity.circumstances.map(\.title)
    }
}
