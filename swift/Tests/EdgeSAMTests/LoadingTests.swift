import EdgeSAMCore
import Foundation
import Testing

@testable import EdgeSAM

/// Files that cannot be used, and compiled models.
@Suite(.serialized) struct LoadingTests {
    let session = Session.shared

    /// What making a predictor fails with.
    private func failure(
        encoder: URL? = nil, decoder: URL? = nil, function: String? = nil
    ) async throws -> EdgeSAMError? {
        let exports = try await session.exports()
        var options = exports.options()
        options.decoderFunction = function
        do {
            _ = try await EdgeSAMPredictor(
                encoder: encoder ?? exports.encoder(), decoder: decoder ?? exports.decoder(), options: options)
            return nil
        } catch let error as EdgeSAMError {
            return error
        }
    }

    @Test func missingFile() async throws {
        let nowhere = URL(filePath: "/nowhere/encoder.mlpackage")
        #expect(try await failure(encoder: nowhere) == .missingFile(path: nowhere.path))
    }

    @Test func addressOfTheWeb() async throws {
        let address = "https://example.org/encoder.mlpackage"
        #expect(try await failure(encoder: URL(string: address)) == .notAFile(url: address))
    }

    @Test func folderOfCompiledModelsThatCannotBeMade() async throws {
        let home = try folder()
        defer { try? FileManager.default.removeItem(at: home) }
        let file = home.appending(path: "file")
        try Data().write(to: file)
        let exports = try await session.exports()
        var options = exports.options()
        options.compiledModels = file.appending(path: "compiled")
        let (encoder, decoder) = (exports.encoder(.maps), exports.decoder(.maps))
        let error = await #expect(throws: EdgeSAMError.self) {
            _ = try await EdgeSAMPredictor(encoder: encoder, decoder: decoder, options: options)
        }
        guard case .cannotStore(file.appending(path: "compiled").path, _)? = error else {
            Issue.record("\(String(describing: error)) is another error")
            return
        }
    }

    @Test func fullDeviceIsSeenInAnyCause() {
        let full = NSError(domain: NSPOSIXErrorDomain, code: Int(POSIXErrorCode.ENOSPC.rawValue))
        let outer = NSError(domain: "com.apple.CoreML", code: 0, userInfo: [NSUnderlyingErrorKey: full])
        #expect(CompiledModelCache.isOutOfSpace(outer))
        #expect(CompiledModelCache.isOutOfSpace(CocoaError(.fileWriteOutOfSpace)))
        #expect(!CompiledModelCache.isOutOfSpace(NSError(domain: "com.apple.CoreML", code: Int(POSIXErrorCode.ENOSPC.rawValue))))
    }

    @Test func fileOfAnotherKind() async throws {
        let json = try await session.exports().folder.appending(path: "fixtures.json")
        #expect(try await failure(decoder: json) == .notAModel(path: json.path))
    }

    @Test func packageThatIsNone() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).mlpackage")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.lastPathComponent
        #expect(
            try await failure(encoder: folder) == .incompletePackage(file: file, missing: "Manifest.json"))
        // A manifest that lists nothing is complete, and still no model.
        try Data(#"{"itemInfoEntries": {}}"#.utf8).write(to: folder.appending(path: "Manifest.json"))
        guard case .cannotCompile(file, _) = try await failure(encoder: folder) else {
            Issue.record("a package without a model was accepted")
            return
        }
    }

    @Test func packageOfADownloadThatWasCutOff() async throws {
        let home = try folder()
        defer { try? FileManager.default.removeItem(at: home) }
        let package = home.appending(path: "half.mlpackage")
        try FileManager.default.copyItem(at: try await session.exports().encoder(.maps), to: package)
        let data = package.appending(path: "Data/com.apple.CoreML")
        try FileManager.default.removeItem(at: data.appending(path: "weights"))
        #expect(
            try await failure(encoder: package)
                == .incompletePackage(file: "half.mlpackage", missing: "Data/com.apple.CoreML/weights"))
        try FileManager.default.removeItem(at: data)
        #expect(
            try await failure(encoder: package)
                == .incompletePackage(file: "half.mlpackage", missing: "Data/com.apple.CoreML/model.mlmodel"))
        try Data("{\"itemInfoEntr".utf8).write(to: package.appending(path: "Manifest.json"))
        #expect(
            try await failure(encoder: package)
                == .incompletePackage(file: "half.mlpackage", missing: "readable Manifest.json"))
    }

    @Test func packagesWithoutAUsableContract() async throws {
        let exports = try await session.exports()
        func refused(_ name: String) async throws -> EdgeSAMError? {
            try await failure(decoder: exports.broken(name))
        }
        #expect(try await refused("no_contract") == .noContract(file: "no_contract.mlpackage"))
        #expect(
            try await refused("newer_schema") == .badContract(file: "newer_schema.mlpackage", .schemaVersion(99)))
        #expect(
            try await refused("other_profile")
                == .unsupportedProfile(
                    file: "other_profile.mlpackage", profile: "sam6", supported: ["default", "official"]))
        #expect(try await refused("other_model") == .differentModels(encoder: "edge_sam_3x", decoder: "mobile_sam"))
        let frames = try await refused("other_frame")
        guard case .differentFrames(let encoder, let decoder) = frames else {
            Issue.record("frames of different sizes were accepted: \(String(describing: frames))")
            return
        }
        #expect(encoder.contains("prompts 1024") && decoder.contains("prompts 512"))
        guard case .badContract(_, .notAContract) = try await refused("not_json") else {
            Issue.record("text that is no JSON was accepted")
            return
        }
    }

    @Test(arguments: ["hostile_slots", "hostile_queries"])
    func contractThatPromisesAnotherProgram(name: String) async throws {
        let hostile = try await session.exports().broken(name)
        switch try await failure(decoder: hostile) {
        case .contractBroken(let file, _), .badContract(let file, .invalid):
            #expect(file == "\(name).mlpackage")
        case let other:
            Issue.record("four billion of \(name) were accepted: \(String(describing: other))")
        }
    }

    @Test func encoderGivenAsDecoder() async throws {
        let encoder = try await session.exports().encoder()
        let expected = EdgeSAMError.wrongComponent(
            file: encoder.lastPathComponent, expected: .decoder, found: .encoder)
        #expect(try await failure(decoder: encoder) == expected)
    }

    @Test func partOfASplitEncoder() async throws {
        let part = try await session.exports().broken("encoder_part1")
        let found = try await failure(encoder: part)
        let half = Contract.Part(number: 1, of: 2)
        #expect(found == .onlyPart(file: "encoder_part1.mlpackage", component: .encoder, half))
        let line =
            "'encoder_part1.mlpackage' is part 1 of 2 of the encoder; export it again without --split-encoder"
        #expect(found?.localizedDescription == line)
    }

    @Test func proposalsGivenAsEncoderOrDecoder() async throws {
        let proposals = try await session.exports().broken("proposals")
        func expected(_ component: Contract.Component) -> EdgeSAMError {
            .wrongComponent(file: "proposals.mlpackage", expected: component, found: .proposals)
        }
        #expect(try await failure(encoder: proposals) == expected(.encoder))
        #expect(try await failure(decoder: proposals) == expected(.decoder))
    }

    @Test func functionThatTheDecoderHasNot() async throws {
        let exports = try await session.exports()
        let found = try await failure(
            encoder: exports.encoder(.tensor), decoder: exports.decoder(.tensor), function: "points_5")
        #expect(found == .unknownFunction(name: "points_5", known: ["main", "points_2"]))
        #expect(try await failure(function: "points_2") == .unknownFunction(name: "points_2", known: ["main"]))
        #expect(try await failure(function: "main") == nil)
    }

    // MARK: Compiled models

    private func folder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appending(path: "edgesam-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    @Test func packageIsCompiledOnceForItsContent() async throws {
        let home = try folder()
        defer { try? FileManager.default.removeItem(at: home) }
        let package = home.appending(path: "tiny.mlpackage")
        try FileManager.default.copyItem(at: try await session.exports().broken("no_contract"), to: package)
        let cache = try CompiledModelCache(folder: home.appending(path: "compiled"))
        let first = try await cache.compiled(package)
        #expect(first.pathExtension == "mlmodelc" && first.path.hasPrefix(cache.folder.path))
        // A mark inside shows whether the folder is still the same one.
        let mark = first.appending(path: "mark")
        try Data("here".utf8).write(to: mark)
        #expect(try await cache.compiled(package) == first)
        #expect(FileManager.default.fileExists(atPath: mark.path))
        let names = try FileManager.default.contentsOfDirectory(atPath: first.deletingLastPathComponent().path)
        #expect(names == ["tiny.mlmodelc"], "nothing half made is left")
        #expect(try await cache.compiled(first) == first, "a compiled model is used where it is")

        try FileManager.default.removeItem(at: package)
        try FileManager.default.copyItem(at: try await session.exports().broken("other_model"), to: package)
        #expect(try await cache.compiled(package) != first)
    }

    @Test func modelsNotUsedForLongMakeRoom() async throws {
        let home = try folder()
        defer { try? FileManager.default.removeItem(at: home) }
        let files = FileManager.default
        let cache = try CompiledModelCache(folder: home.appending(path: "compiled"), limit: 3)
        /// An entry of an earlier process, `days` old.
        func entry(_ digit: Character, days: Double) throws -> URL {
            let entry = cache.folder.appending(path: String(repeating: digit, count: 32))
            try files.createDirectory(
                at: entry.appending(path: "old.mlmodelc"), withIntermediateDirectories: true)
            try files.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -86400 * days)], ofItemAtPath: entry.path)
            return entry
        }
        let (oldest, old, recent) = (try entry("a", days: 3), try entry("b", days: 2), try entry("c", days: 1))
        let foreign = cache.folder.appending(path: "notes")
        try files.createDirectory(at: foreign, withIntermediateDirectories: true)
        func exist() -> [Bool] { [oldest, old, recent, foreign].map { files.fileExists(atPath: $0.path) } }

        let package = home.appending(path: "tiny.mlpackage")
        try files.copyItem(at: try await session.exports().broken("no_contract"), to: package)
        let compiled = try await cache.compiled(package)
        #expect(exist() == [false, true, true, true], "three are kept, and what is no model of the cache")
        // No room at all, but what this process uses stays.
        let second = home.appending(path: "second.mlpackage")
        try files.copyItem(at: try await session.exports().broken("newer_schema"), to: second)
        let full = try CompiledModelCache(folder: cache.folder, limit: 0)
        let other = try await full.compiled(second)
        #expect(exist() == [false, false, false, true])
        #expect(files.fileExists(atPath: compiled.path) && files.fileExists(atPath: other.path))
    }

    @Test func damagedCompiledModelIsMadeAgain() async throws {
        let exports = try await session.exports()
        let home = try folder()
        defer { try? FileManager.default.removeItem(at: home) }
        var options = exports.options()
        options.compiledModels = home
        let cache = try CompiledModelCache(folder: home)
        let compiled = try await cache.compiled(exports.decoder(.tensor))
        for name in try FileManager.default.contentsOfDirectory(atPath: compiled.path) {
            try FileManager.default.removeItem(at: compiled.appending(path: name))
        }
        let predictor = try await EdgeSAMPredictor(
            encoder: exports.encoder(.tensor), decoder: exports.decoder(.tensor), options: options)
        #expect(predictor.model == "edge_sam_3x")
    }

    @Test func contentKeyKnowsContentAndNamesButNotThePlace() throws {
        let home = try folder()
        defer { try? FileManager.default.removeItem(at: home) }
        func key(_ place: String, _ files: [String: String]) throws -> String {
            let folder = home.appending(path: place)
            for (name, text) in files {
                let file = folder.appending(path: name)
                try FileManager.default.createDirectory(
                    at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
                try Data(text.utf8).write(to: file)
            }
            return try ContentKey(folder: folder).text
        }
        let first = try key("a", ["x/data": "nine bytes", "manifest": "m"])
        #expect(first.count == 32)
        #expect(try key("b", ["x/data": "nine bytes", "manifest": "m"]) == first)
        let others = [
            try key("c", ["x/data": "nine bytez", "manifest": "m"]),  // last bytes of no whole word
            try key("d", ["x/data": "mine bytes", "manifest": "m"]),
            try key("e", ["y/data": "nine bytes", "manifest": "m"]),
            try key("f", ["x/data": "nine bytesm", "manifest": ""]),
            try key("g", ["x/data": "nine bytes\0", "manifest": "m"]),
        ]
        #expect(Set(others + [first]).count == 6)
    }
}
