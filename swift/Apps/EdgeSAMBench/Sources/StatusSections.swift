import EdgeSAMBenchCore
import SwiftUI

/// A symbol, what happens, and a sentence about it.
struct HeadlineSection: View {
    let symbol: String
    let tint: Color
    let title: String
    let detail: String?

    var body: some View {
        Section {
            VStack(alignment: .leading, spacing: 8) {
                Image(systemName: symbol)
                    .font(.largeTitle)
                    .foregroundStyle(tint)
                    .accessibilityHidden(true)
                Text(title)
                    .font(.title2.bold())
                if let detail {
                    Text(detail)
                        .foregroundStyle(.secondary)
                }
            }
            .padding(.vertical, 4)
            .accessibilityElement(children: .combine)
        }
    }
}

struct WaitingSection: View {
    var body: some View {
        HeadlineSection(
            symbol: "tray.and.arrow.down", tint: .accentColor, title: "Waiting for a run",
            detail: "No folder edgesam-in-… without a result lies in this app's Documents. "
                + "Start one on the computer with “edgesam-export bench”.")
    }
}

struct RunningSection: View {
    let progress: RunProgress?

    var body: some View {
        let status = progress?.status
        let phase = status?.phase ?? .received
        HeadlineSection(
            symbol: "speedometer", tint: .accentColor, title: ScreenText.title(of: phase),
            detail: ScreenText.explanation(of: phase))
        Section("Progress") {
            if let status, let index = status.caseIndex, let count = status.caseCount, count > 0 {
                ProgressView(value: Double(min(index, count)), total: Double(count))
                    .accessibilityLabel("Finished cases")
            } else {
                ProgressView()
                    .accessibilityLabel("Working")
            }
            if let status {
                ValueRow(name: "Case", value: ScreenText.position(status))
                ValueRow(name: "Iteration", value: status.iteration.map(String.init) ?? "–")
                ValueRow(name: "Last latency", value: ScreenText.milliseconds(progress?.lastSampleNs))
                ValueRow(name: "Memory", value: ScreenText.megabytes(status.physFootprint))
                ThermalRow(thermal: status.thermalState)
            }
        }
    }
}

struct FailureSection: View {
    let failure: BenchFailure

    var body: some View {
        HeadlineSection(
            symbol: "exclamationmark.triangle.fill", tint: .red, title: "Run failed", detail: failure.message)
        Section("Details") {
            if let hint = failure.hint {
                Label(hint, systemImage: "lightbulb")
            }
            ValueRow(name: "During", value: failure.stage)
            ValueRow(name: "Code", value: "\(failure.domain) \(failure.code)")
        }
    }
}

struct RunSection: View {
    let id: String

    var body: some View {
        Section("Run") {
            Text(id)
                .font(.footnote.monospaced())
                .textSelection(.enabled)
                .accessibilityLabel("Run identifier")
                .accessibilityValue(id)
        }
    }
}

/// A name and a number that changes without moving its neighbours.
struct ValueRow: View {
    let name: String
    let value: String

    var body: some View {
        LabeledContent {
            Text(value)
                .monospacedDigit()
        } label: {
            Text(name)
        }
    }
}

private struct ThermalRow: View {
    let thermal: ThermalLevel?

    var body: some View {
        LabeledContent {
            Text(ScreenText.title(of: thermal))
                .foregroundStyle(colour)
        } label: {
            Text("Thermal state")
        }
    }

    /// The word says the same: colour is not the only sign.
    private var colour: Color {
        switch thermal {
        case .nominal: .green
        case .fair: .yellow
        case .serious: .orange
        case .critical: .red
        case nil: .secondary
        }
    }
}
