import Dispatch
import EdgeSAMBenchCore
import EdgeSAMBenchRuntime
import Foundation

/// An orderly end on SIGTERM and SIGINT: the status says so, finished cases are on disk.
enum Termination {
    static func handler(for session: BenchSession) -> [any DispatchSourceSignal] {
        [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                session.interrupt()
                exit(BenchExit.failed.rawValue)
            }
            source.resume()
            return source
        }
    }
}
