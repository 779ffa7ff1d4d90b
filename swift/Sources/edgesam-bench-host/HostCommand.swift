import Foundation

/// What the command line and the environment ask for.
struct HostCommand {
    static let version = "1"
    static let usage = """
        usage: edgesam-bench-host --documents DIR [--run-id ID] [--mode prepare] [--compiled-models DIR]

          --documents DIR        folder with edgesam-in-<run id>; results go to edgesam-out-<run id> beside it
          --run-id ID            run to take up (default: EDGESAM_BENCH_RUN_ID, else the newest one without a result)
          --mode prepare         only make the documents folder (also EDGESAM_BENCH_MODE=prepare)
          --compiled-models DIR  where compiled models are kept (default: Application Support)
        """

    struct UsageError: Error { let message: String }

    private(set) var documents = URL(filePath: "/")
    private(set) var compiledModels: URL?
    private(set) var runID: String?
    private(set) var preparesOnly = false
    private(set) var showsHelp = false

    init(arguments: [String], environment: [String: String]) throws(UsageError) {
        runID = environment["EDGESAM_BENCH_RUN_ID"].flatMap { $0.isEmpty ? nil : $0 }
        preparesOnly = environment["EDGESAM_BENCH_MODE"] == "prepare"
        var folder: String?
        var rest = arguments[...]
        while let option = rest.popFirst() {
            if option == "--help" || option == "-h" {
                showsHelp = true
                return
            }
            guard ["--documents", "--run-id", "--mode", "--compiled-models"].contains(option) else {
                throw UsageError(message: "edgesam-bench-host: unknown argument '\(option)'")
            }
            guard let value = rest.popFirst(), !value.isEmpty else {
                throw UsageError(message: "edgesam-bench-host: \(option) needs a value")
            }
            switch option {
            case "--documents": folder = value
            case "--run-id": runID = value
            case "--compiled-models": compiledModels = URL(filePath: value)
            default:
                guard value == "prepare" else {
                    throw UsageError(message: "edgesam-bench-host: --mode takes 'prepare', not '\(value)'")
                }
                preparesOnly = true
            }
        }
        guard let folder else { throw UsageError(message: "edgesam-bench-host: --documents is missing") }
        documents = URL(filePath: folder)
    }
}
