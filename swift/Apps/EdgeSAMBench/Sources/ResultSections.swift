import EdgeSAMBenchCore
import SwiftUI

/// A section for each measured case.
struct ResultSections: View {
    let table: ResultTable

    var body: some View {
        ForEach(table.cases) { measured in
            Section {
                ForEach(measured.rows) { row in
                    StageRow(row: row)
                }
                if measured.rows.isEmpty {
                    Text(ScreenText.words(measured.outcome.rawValue))
                        .foregroundStyle(.secondary)
                }
                ForEach(Array(measured.remarks.enumerated()), id: \.offset) { remark in
                    Label(remark.element, systemImage: "exclamationmark.triangle")
                        .font(.footnote)
                        .foregroundStyle(.orange)
                }
            } header: {
                Text(measured.name)
                    .textCase(nil)
            }
        }
        Section {
            Text("Last and lowest are single samples, not statistics. Statistics are made on the computer.")
                .font(.footnote)
                .foregroundStyle(.secondary)
        }
    }
}

/// A stage with its last and lowest sample; one above the other where the letters are very large.
private struct StageRow: View {
    let row: ResultTable.Row
    @Environment(\.dynamicTypeSize) private var typeSize

    var body: some View {
        let layout =
            typeSize.isAccessibilitySize
            ? AnyLayout(VStackLayout(alignment: .leading)) : AnyLayout(HStackLayout())
        layout {
            VStack(alignment: .leading) {
                Text(ScreenText.words(row.id))
                    .font(.headline)
                Text("\(row.sampleCount) samples")
                    .font(.caption)
                    .foregroundStyle(.secondary)
            }
            .frame(maxWidth: .infinity, alignment: .leading)
            SampleColumn(title: "last", nanoseconds: row.lastNs)
            SampleColumn(title: "lowest", nanoseconds: row.lowestNs)
        }
        .accessibilityElement(children: .combine)
    }
}

private struct SampleColumn: View {
    let title: String
    let nanoseconds: UInt64?

    var body: some View {
        VStack(alignment: .trailing) {
            Text(ScreenText.milliseconds(nanoseconds))
                .monospacedDigit()
            Text(title)
                .font(.caption)
                .foregroundStyle(.secondary)
        }
    }
}
