import Foundation

/// The program's entry.
@main
enum Launch {
    static let request = LaunchRequest(environment: ProcessInfo.processInfo.environment)

    @MainActor
    static func main() {
        if request.preparesOnly {
            do {
                // Asking for the folder makes it: a push into a fresh installation finds it then.
                _ = try RuntimeEngine.documents()
            } catch {
                FileHandle.standardError.write(Data("cannot make the Documents folder: \(error)\n".utf8))
            }
        }
        // A launch that only prepares shows its window too: the system reports a process that exits before it is an
        // app as a launch that failed.  The host ends it.
        EdgeSAMBenchApp.main()
    }
}
