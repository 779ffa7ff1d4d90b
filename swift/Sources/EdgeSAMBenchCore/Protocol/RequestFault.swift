/// Why a request is refused, as the failure that is reported.
enum RequestFault {
    static let hint = "write the request with the edgesam-export version that built this runner"

    static func value(_ field: String, _ message: String) -> BenchFailure {
        BenchFailure(stage: "received", code: "bad_request", message: "request.json: \(field): \(message)")
    }

    static func missing(_ field: String) -> BenchFailure {
        BenchFailure(
            stage: "received", code: "missing_field", message: "request.json: \(field) is missing", hint: hint)
    }

    static func type(_ field: String, _ message: String) -> BenchFailure {
        BenchFailure(stage: "received", code: "wrong_type", message: "request.json: \(field): \(message)", hint: hint)
    }

    static func notJSON(_ message: String) -> BenchFailure {
        BenchFailure(
            stage: "received", code: "not_json", message: "request.json is not a JSON object: \(message)",
            hint: "push the run again")
    }

    static func version(_ found: Int) -> BenchFailure {
        BenchFailure(
            stage: "received", code: "protocol_version",
            message: "request.json has protocol version \(found), this runner speaks \(benchProtocolVersion)",
            hint: "rebuild and reinstall the runner, or use the edgesam-export version that built it")
    }
}
