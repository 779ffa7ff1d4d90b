import Foundation

/// The program's entry: a launch that only prepares never shows a window.
@main
enum Launch {
    static let request = LaunchRequest(environment: ProcessInfo.processInfo.environment)

    @MainActor
    static func main() {
        if request.preparesOnly {
            do {
                // Asking for the folder makes it: a push into a fresh installation finds it then.
                _ = try RuntimeEngine.documents()
                exit(EXIT_SUCCESS)
            } catch {
                FileHandle.standardError.write(Data("cannot make the Documents folder: \(error)\n".utf8))
                exit(EXIT_FAILURE)
            }
        }
        EdgeSAMBenchApp.main()
    }
}
