import EdgeSAMBenchCore
import Foundation

/// Words and numbers of the screen.
enum ScreenText {
    static func title(of phase: BenchPhase) -> String {
        switch phase {
        case .received: "Checking the request"
        case .compiling: "Compiling the models"
        case .loading: "Loading the models"
        case .warming: "Warming up"
        case .waitingThermal: "Waiting for the device to cool"
        case .running: "Measuring"
        case .cooling: "Resting between cases"
        case .writing: "Writing the result"
        case .done: "Done"
        case .failed: "Failed"
        }
    }

    /// Why nothing seems to happen; nil where the phase is short.
    static func explanation(of phase: BenchPhase) -> String? {
        switch phase {
        case .compiling, .loading: "The first time on a device this can take minutes."
        case .waitingThermal: "The request asks for a cooler device before it starts."
        default: nil
        }
    }

    static func title(of thermal: ThermalLevel?) -> String {
        switch thermal {
        case .nominal: "Nominal"
        case .fair: "Fair"
        case .serious: "Serious"
        case .critical: "Critical"
        case nil: "Unknown"
        }
    }

    /// A name such as `end_to_end` as words.
    static func words(_ name: String) -> String {
        name.replacingOccurrences(of: "_", with: " ").capitalized(with: Locale(identifier: "en_US_POSIX"))
    }

    /// Milliseconds with two decimals, cut off rather than rounded up to a time that was not reached.
    static func milliseconds(_ nanoseconds: UInt64?) -> String {
        guard let nanoseconds else { return "–" }
        let hundredths = nanoseconds / 10_000
        let decimals = hundredths % 100
        return "\(hundredths / 100).\(decimals < 10 ? "0" : "")\(decimals) ms"
    }

    /// Whole megabytes of 1 000 000 bytes.
    static func megabytes(_ bytes: Int?) -> String {
        bytes.map { "\($0 / 1_000_000) MB" } ?? "–"
    }

    /// "2 of 8"; cases are counted from one on the screen.
    static func position(_ status: BenchStatus) -> String {
        guard let index = status.caseIndex, let count = status.caseCount, count > 0 else { return "–" }
        return "\(min(index + 1, count)) of \(count)"
    }
}
