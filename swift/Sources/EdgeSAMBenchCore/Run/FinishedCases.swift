import Foundation

/// The cases that stand in `partial.ndjson`, and adding to them.
struct FinishedCases {
    /// Largest file that is read back, bytes.
    static let sizeLimit = 1 << 29

    private(set) var byID: [String: CaseResult] = [:]
    private let file: URL
    private let store: any FileStore

    /// Reads what an earlier attempt left.  A line that a crash tore off is dropped, and the file put in order.
    init(file: URL, planned: [CasePlan], store: any FileStore) throws {
        self.file = file
        self.store = store
        guard store.entry(at: file) != nil else { return }
        let data = try store.read(file, limit: Self.sizeLimit)
        let ids = Set(planned.map(\.id))
        for line in data.split(separator: UInt8(ascii: "\n")) {
            guard let found = try? BenchJSON.decode(CaseResult.self, from: Data(line)), ids.contains(found.id),
                byID[found.id] == nil
            else { continue }
            byID[found.id] = found
        }
        let sound = try planned.compactMap { byID[$0.id] }.reduce(into: Data()) { $0 += try BenchJSON.line($1) }
        if sound != data { try store.writeAtomically(sound, to: file) }
    }

    /// Keeps a case, on disk first.
    mutating func add(_ result: CaseResult) throws {
        try store.append(BenchJSON.line(result), to: file)
        byID[result.id] = result
    }
}
