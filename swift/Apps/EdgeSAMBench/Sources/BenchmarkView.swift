import EdgeSAMBenchCore
import SwiftUI

/// The one screen: what is going on, and what came out.
struct BenchmarkView: View {
    let model: BenchmarkModel

    var body: some View {
        NavigationStack {
            List {
                switch model.state.activity {
                case .waiting:
                    WaitingSection()
                case .running:
                    RunningSection(progress: model.state.progress)
                case .finished:
                    HeadlineSection(
                        symbol: "checkmark.circle.fill", tint: .green, title: "Run finished",
                        detail: "The computer that asked for it collects the result.")
                case .failed(let failure):
                    FailureSection(failure: failure)
                }
                if model.state.wasInterrupted {
                    Label("The app left the foreground; those samples do not count.", systemImage: "moon.zzz")
                        .foregroundStyle(.orange)
                }
                if let id = model.state.runID {
                    RunSection(id: id)
                }
                if let result = model.state.result {
                    ResultSections(table: ResultTable(result))
                }
            }
            .navigationTitle("EdgeSAM Bench")
            .safeAreaInset(edge: .bottom) {
                if !model.state.isRunning {
                    StartButton(model: model)
                }
            }
        }
    }
}

private struct StartButton: View {
    let model: BenchmarkModel

    var body: some View {
        Button {
            Task { await model.startPendingRun() }
        } label: {
            Label("Look for a run", systemImage: "play.fill")
                .frame(maxWidth: .infinity)
        }
        .buttonStyle(.borderedProminent)
        .controlSize(.large)
        .padding()
        .background(.bar)
        .accessibilityHint("Starts the newest run that has no result yet")
    }
}
