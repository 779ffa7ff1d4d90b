import Foundation

/// What the host asks for through the environment: devicectl takes an argument that starts with "-" for its own.
struct LaunchRequest: Equatable {
    /// The run to take up; nil takes the newest unanswered one.
    var runID: String?
    /// Only make the folder that the host pushes into; no run is taken up.
    var preparesOnly: Bool

    init(environment: [String: String]) {
        let id = environment["EDGESAM_BENCH_RUN_ID"]?.trimmingCharacters(in: .whitespacesAndNewlines)
        runID = id.flatMap { $0.isEmpty ? nil : $0 }
        preparesOnly = environment["EDGESAM_BENCH_MODE"] == "prepare"
    }
}
