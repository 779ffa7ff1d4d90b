import FixtureSupport
import Foundation
import Testing

@testable import EdgeSAMBenchCore

private func golden(_ name: String) throws -> Data {
    try Data(contentsOf: Fixtures.goldens.appending(path: "bench/\(name)"))
}

private func object(_ data: Data) throws -> NSDictionary {
    try #require(try JSONSerialization.jsonObject(with: data) as? NSDictionary)
}

/// Decoding and encoding again gives the same document, so no field is lost or renamed.
@Test func statusAndResultSurviveARoundTrip() throws {
    for name in ["status.json", "status_done.json"] {
        let status = try BenchJSON.decode(BenchStatus.self, from: golden(name))
        #expect(try object(BenchJSON.document(status)) == object(golden(name)))
    }
    let result = try BenchJSON.decode(BenchResult.self, from: golden("result.json"))
    #expect(try object(BenchJSON.document(result)) == object(golden("result.json")))
}

/// The golden holds every code, and Python's tests find words for each of them there.
@Test func everyCircumstanceHasItsCode() throws {
    let result = try BenchJSON.decode(BenchResult.self, from: golden("result.json"))
    #expect(result.cases[1].validity.circumstances.map(\.code) == Circumstance.Code.allCases)
    #expect(result.cases[1].validity.circumstances[1].title == "throttled: serious")
}

@Test func aCaseIsOneLine() throws {
    let result = try BenchJSON.decode(BenchResult.self, from: golden("result.json"))
    let line = try BenchJSON.line(result.cases[0])
    #expect(line.filter { $0 == UInt8(ascii: "\n") }.count == 1)
    #expect(try BenchJSON.decode(CaseResult.self, from: line) == result.cases[0])
}

@Test func requestIsReadAsWritten() throws {
    let request = try RequestReader.request(from: golden("request.json"))
    #expect(request.runId == "6f1d2c3b-4a59-4687-9c10-1234567890ab")
    #expect(request.matrix[0].hints == Hints())
    #expect(
        request.matrix[1].hints == Hints(reshapeFrequency: .infrequent, specializationStrategy: .fastPrediction))
    #expect(request.schedule.sustainedDurationS == 60.5)
    #expect(request.workload.paceHz == nil)
    #expect(request.workload.stages == [.encoder, .decoder, .endToEnd])
    #expect(request.models[1].inputSpec[1].shape == [1, nil, 2])
    // Names of tensors are data, not fields, and keep their underscores.
    #expect(request.collect.parityInputs[0].feed.keys.sorted() == ["image_embeddings", "point_coords", "point_labels"])
}

@Test func casesAreTheRowsTimesThePoints() throws {
    let request = try RequestReader.request(from: golden("request.json"))
    #expect(
        CasePlan.all(for: request).map(\.id) == [
            "cpu_and_ne/cpu_and_ne/n1", "cpu_and_ne/cpu_and_ne/n4", "cpu_and_ne/cpu_and_ne/n4/vary",
            "all/cpu_only/reshape_infrequent/specialize_fast_prediction/n1",
            "all/cpu_only/reshape_infrequent/specialize_fast_prediction/n4",
            "all/cpu_only/reshape_infrequent/specialize_fast_prediction/n4/vary",
        ])
}

@Test func unknownFieldsAreIgnored() throws {
    var text = String(decoding: try golden("request.json"), as: UTF8.self)
    text = text.replacing("\"nonce\":", with: "\"later\": {\"x\": [1]}, \"nonce\":")
    text = text.replacing("\"concurrency\": 2", with: "\"concurrency\": 2, \"later_too\": null")
    #expect(try RequestReader.request(from: Data(text.utf8)) == RequestReader.request(from: golden("request.json")))
}

/// What is replaced in the golden request, by what, and what the message must name.
private let hostile: [(String, String, code: String, names: String)] = [
    ("\"protocol_version\": 1", "\"protocol_version\": 2", "protocol_version", "version 2"),
    ("\"warmup_iterations\": 10", "\"later\": 10", "missing_field", "schedule.warmup_iterations is missing"),
    ("\"role\": \"decoder\",", "", "missing_field", "models[1].role is missing"),
    ("\"min_iterations\": 100", "\"min_iterations\": \"100\"", "wrong_type", "schedule.min_iterations"),
    ("\"n_points\": [1, 4]", "\"n_points\": 4", "wrong_type", "workload.n_points"),
    ("\"n_points\": [1, 4]", "\"n_points\": [1, 1]", "bad_request", "appears twice"),
    ("\"n_points\": [1, 4]", "\"n_points\": [0]", "bad_request", "workload.n_points"),
    ("\"encoder\": \"all\"", "\"encoder\": \"warp_drive\"", "bad_request", "matrix[1].compute_units.encoder"),
    ("\"min_iterations\": 100", "\"min_iterations\": 1000000000000", "bad_request", "schedule.min_iterations"),
    ("\"min_iterations\": 100", "\"min_iterations\": 1e300", "not_json", "not a JSON object"),
    ("\"min_duration_s\": 10", "\"min_duration_s\": NaN", "not_json", "not a JSON object"),
    ("\"min_duration_s\": 10", "\"min_duration_s\": 1e999", "not_json", "not a JSON object"),
    ("\"min_duration_s\": 10", "\"min_duration_s\": -1", "bad_request", "schedule.min_duration_s"),
    ("\"max_duration_s\": 60", "\"max_duration_s\": 1", "bad_request", "schedule.max_duration_s"),
    ("\"concurrency\": 2", "\"concurrency\": 65", "bad_request", "workload.concurrency"),
    ("\"pace_hz\": null", "\"pace_hz\": 0", "bad_request", "workload.pace_hz"),
    ("models/edge_sam_3x_encoder.mlpackage", "../../etc", "bad_request", "models[0].relative_path"),
    ("models/edge_sam_3x_encoder.mlpackage", "/etc/passwd", "bad_request", "is absolute"),
    ("models/edge_sam_3x_encoder.mlpackage", "models//x", "bad_request", "models[0].relative_path"),
    ("inputs/coords.npy", "inputs/../../x", "bad_request", "collect.parity_inputs[0].feed.point_coords"),
    ("\"decoder_point\"", "\"..\"", "bad_request", "collect.parity_inputs[0].outputs_dir"),
    ("a3f1c0de", "XYZ1c0de", "bad_request", "models[0].sha256_tree"),
    ("6f1d2c3b-4a59-4687-9c10-1234567890ab", "../6f1d2c3b", "bad_request", "run_id"),
    ("00112233445566778899aabbccddeeff", "0011", "bad_request", "nonce"),
    ("\"role\": \"decoder\"", "\"role\": \"encoder\"", "bad_request", "2 models have role 'encoder'"),
]

@Test(arguments: hostile.indices) func hostileRequestsAreRefusedWithThePlace(index: Int) throws {
    let (from, to, code, names) = hostile[index]
    let text = String(decoding: try golden("request.json"), as: UTF8.self)
    #expect(text.contains(from))
    let error = #expect(throws: BenchFailure.self) {
        try RequestReader.request(from: Data(text.replacing(from, with: to).utf8))
    }
    let failure = try #require(error)
    #expect(failure.code == code, "\(failure.message)")
    #expect(failure.message.contains(names), "\(failure.message)")
    #expect(failure.stage == "received")
    #expect(!failure.message.contains("\n"))
}

@Test(arguments: ["", "[]", "null", "\u{0}\u{1}", "{", "{\"protocol_version\": \"1\"}", "{}"])
func whatIsNoRequestIsRefused(text: String) {
    #expect(throws: BenchFailure.self) { try RequestReader.request(from: Data(text.utf8)) }
}

@Test func runAndNonceOfARefusedRequestAreStillTold() throws {
    let text = """
        {"run_id": "6f1d2c3b-4a59-4687-9c10-1234567890ab", "nonce": "00112233445566778899aabbccddeeff", "x": 1}
        """
    let identity = RequestReader.identity(from: Data(text.utf8))
    #expect(identity.runId == "6f1d2c3b-4a59-4687-9c10-1234567890ab")
    #expect(identity.nonce == "00112233445566778899aabbccddeeff")
    #expect(RequestReader.identity(from: Data("{\"run_id\": \"../x\", \"nonce\": 3}".utf8)) == .init())
}
