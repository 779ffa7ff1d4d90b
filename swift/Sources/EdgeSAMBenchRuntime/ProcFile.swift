#if os(Linux)
    import Foundation

    /// Linux's text files about processes and the machine.
    enum ProcFile {
        /// Lines `name: value` by name; the first of several.
        static func fields(_ path: String) -> [String: String] {
            guard let data = FileManager.default.contents(atPath: path) else { return [:] }
            var fields: [String: String] = [:]
            for line in String(decoding: data, as: UTF8.self).split(separator: "\n") {
                let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
                if parts.count == 2, fields[parts[0]] == nil { fields[parts[0]] = parts[1] }
            }
            return fields
        }

        /// Bytes of a value such as `1234 kB`.
        static func bytes(_ value: String) -> Int? {
            value.split(separator: " ").first.flatMap { Int($0) }.map { $0 * 1024 }
        }
    }
#endif
