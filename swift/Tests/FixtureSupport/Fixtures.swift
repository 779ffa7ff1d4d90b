import Foundation

/// Files that the tests read; found from this source file, so that no target needs resources.
public enum Fixtures {
    /// Packages cannot be exported, or something is not among what was exported.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String

        public init(description: String) {
            self.description = description
        }
    }

    /// Root of the repository.
    public static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Golden vectors, the same files that Python's tests read.
    public static let goldens = root.appending(path: "tests/goldens")

    /// Python with edgesam-export installed: `EDGESAM_PYTHON`, or the repository's own environment.
    public static var python: URL {
        if let path = ProcessInfo.processInfo.environment["EDGESAM_PYTHON"] { return URL(filePath: path) }
        return root.appending(path: ".venv/bin/python")
    }

    /// Whether SAM 2.1 tiny is tested too, which takes minutes: `make swift-sam2` sets `EDGESAM_SAM2`.
    public static var withSAM2: Bool { ProcessInfo.processInfo.environment["EDGESAM_SAM2"] != nil }

    /// Packages with random weights and what Python's predictor makes of them; `tests/swift_fixtures.py` says what is
    /// there.  The first call may take half a minute, when the project's sources changed.
    ///
    /// Also tells the stand-in for Core ML which Python to start, unless the environment does.
    public static func exports() throws -> URL { try made.get() }

    private static let made: Result<URL, Failure> = {
        #if os(Linux)
            setenv("EDGESAM_PYTHON", python.path, 0)
        #endif
        let script = root.appending(path: "tests/swift_fixtures.py")
        let (process, output) = (Process(), Pipe())
        process.executableURL = python
        process.arguments = [script.path] + (withSAM2 ? ["sam2.1_hiera_tiny"] : [])
        process.currentDirectoryURL = root
        process.standardOutput = output
        do {
            try process.run()
        } catch {
            return .failure(Failure(description: "cannot start \(python.path): \(error); run `make setup`"))
        }
        let printed = (try? output.fileHandleForReading.readToEnd()) ?? nil
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            return .failure(
                Failure(description: "\(script.path) ended with \(process.terminationStatus); its last lines say why"))
        }
        let path = String(decoding: printed ?? Data(), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        return .success(URL(filePath: path))
    }()
}
