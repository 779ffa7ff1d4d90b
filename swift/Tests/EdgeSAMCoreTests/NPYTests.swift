import EdgeSAMCore
import Foundation
import Testing

struct NPYTests {
    private func file(_ header: String, version: (UInt8, UInt8) = (1, 0), length: Int? = nil, body: Int = 4) -> Data {
        let count = length ?? header.utf8.count
        var data = Data([0x93]) + Data("NUMPY".utf8) + Data([version.0, version.1])
        for byte in 0..<(version.0 == 1 ? 2 : 4) { data.append(UInt8(truncatingIfNeeded: count >> (8 * byte))) }
        return data + Data(header.utf8) + Data(repeating: 0, count: body)
    }

    @Test func versionTwoAndAnotherOrderOfKeysAreRead() throws {
        let header = "{\"shape\":(1,),\"descr\":\"<f4\",\"fortran_order\":False}\n"
        #expect(try NPYArray(file: file(header, version: (2, 0))).shape == [1])
    }

    @Test(arguments: [
        "", "{", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False, 'shape': (1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} import os",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1.5,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "{'descr': '<f4",
    ])
    func damagedHeadersAreRefused(_ header: String) {
        let error = #expect(throws: NPYError.self) { try NPYArray(file: file(header)) }
        guard case .header? = error else {
            Issue.record("\(String(describing: error)) is another error")
            return
        }
    }

    @Test(arguments: ["(-1,)", "(9999999999999999999999,)", "(9223372036854775807, 0, 9223372036854775807)"])
    func impossibleShapesAreRefused(_ shape: String) {
        let error = #expect(throws: NPYError.self) {
            try NPYArray(file: file("{'descr': '<f4', 'fortran_order': False, 'shape': \(shape), }"))
        }
        guard case .shape? = error else {
            Issue.record("\(String(describing: error)) is another error")
            return
        }
    }

    @Test func tooManyDimensionsAreRefused() {
        let shape = "(" + String(repeating: "1, ", count: 33) + ")"
        #expect(throws: NPYError.shape("more than 32 dimensions")) {
            try NPYArray(file: file("{'descr': '<f4', 'fortran_order': False, 'shape': \(shape), }"))
        }
    }

    @Test func otherTypesOrdersAndVersionsAreRefused() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
        for code in [">f4", "|O", "<c8", "<U3"] {
            #expect(throws: NPYError.type(code)) {
                try NPYArray(file: file(good.replacingOccurrences(of: "<f4", with: code)))
            }
        }
        #expect(throws: NPYError.fortranOrder) {
            try NPYArray(file: file(good.replacingOccurrences(of: "False", with: "True")))
        }
        #expect(throws: NPYError.version(major: 3, minor: 0)) { try NPYArray(file: file(good, version: (3, 0))) }
        #expect(throws: NPYError.magic) { try NPYArray(file: Data("PK\u{3}\u{4}".utf8)) }
        #expect(throws: NPYError.magic) { try NPYArray(file: Data()) }
    }

    @Test func filesThatAreTooShortOrTooLongAreRefused() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
        for body in [3, 5] {
            #expect(throws: NPYError.count(needed: 4, given: body, shape: [1])) {
                try NPYArray(file: file(good, body: body))
            }
        }
        for length in 0..<64 {
            #expect(throws: NPYError.self) { try NPYArray(file: file(good).prefix(length)) }
        }
        #expect(throws: NPYError.self) { try NPYArray(file: file(good, version: (2, 0), length: Int(UInt32.max))) }
    }

    @Test func sliceOfLargerDataIsRead() throws {
        let array = try NPYArray(shape: [2], floats: [1.5, -2])
        let larger = Data([1, 2, 3]) + array.file()
        #expect(try NPYArray(file: larger.dropFirst(3)).floats() == [1.5, -2])
    }

    @Test func bytesThatDoNotFillTheShapeAreRefused() {
        #expect(throws: NPYError.count(needed: 8, given: 4, shape: [2])) { try NPYArray(shape: [2], floats: [1]) }
        #expect(throws: NPYError.self) { try NPYArray(shape: [-1], floats: []) }
    }
}
