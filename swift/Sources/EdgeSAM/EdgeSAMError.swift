import EdgeSAMCore
import Foundation

/// Everything that can go wrong between two files and a mask; each case says what, where and what to do.
///
/// A cancelled task throws `CancellationError` instead.
public enum EdgeSAMError: Error, Equatable, Sendable {
    /// Part of the work that was going on.
    public enum Stage: String, Sendable {
        case encoder
        case decoder
    }

    case missingFile(path: String)
    /// An address of the web in place of a file.
    case notAFile(url: String)
    /// Neither `.mlpackage` nor `.mlmodelc`.
    case notAModel(path: String)
    case cannotCompile(file: String, reason: String)
    /// Compiled models cannot be written to the folder that keeps them, or the device is full.
    case cannotStore(folder: String, reason: String)
    case cannotLoad(file: String, reason: String)
    case noContract(file: String)
    case badContract(file: String, ContractError)
    case wrongComponent(file: String, expected: Contract.Component, found: Contract.Component)
    /// One of several files that make up a component; only whole ones can be used.
    case onlyPart(file: String, component: Contract.Component, Contract.Part)
    case unsupportedProfile(file: String, profile: String, supported: [String])
    case differentModels(encoder: String, decoder: String)
    case differentFrames(encoder: String, decoder: String)
    /// The program's inputs or outputs are not those that its contract promises.
    case contractBroken(file: String, detail: String)
    case unknownFunction(name: String, known: [String])
    case systemTooOld(feature: String, needs: String)
    case picture(ImageError)
    /// A pixel buffer of another format than 32BGRA, 420f and 420v; four-character code.
    case pixelFormat(found: String)
    /// A video frame made with a matrix that is not known here.
    case colourMatrix(found: String)
    /// A file or its bytes that Image I/O cannot read; `source` is the file's name, or "data".
    case unreadableImage(source: String, detail: String)
    /// An array of a type that models of edgesam-export do not have; the raw value of Core ML's.
    case elementType(code: Int)
    /// A package of which files are missing, as after a download that was cut off.
    case incompletePackage(file: String, missing: String)
    case noPixels(detail: String)
    case prompt(PromptError)
    case maskPromptNotTaken
    case foreignEmbedding(embedding: String, predictor: String)
    case predictionFailed(Stage, reason: String)
    case badScores(MaskScoreError)
    case unloaded
}

extension EdgeSAMError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .missingFile(let path):
            "no file at '\(path)'; check that the model is part of the app"
        case .notAFile(let url):
            "'\(url)' is no file; download it first and give the file"
        case .notAModel(let path):
            "'\(path)' is no Core ML model; give an unpacked .mlpackage or an .mlmodelc"
        case .cannotCompile(let file, let reason):
            "Core ML cannot compile '\(file)': \(oneLine(reason)); export it again"
        case .cannotStore(let folder, let reason):
            "cannot keep compiled models in '\(folder)': \(oneLine(reason)); free space on the device, or give another"
                + " folder in EdgeSAMOptions.compiledModels"
        case .cannotLoad(let file, let reason):
            "Core ML cannot load '\(file)': \(oneLine(reason)); check the system version it was exported for"
        case .noContract(let file):
            "'\(file)' carries no contract of edgesam-export; only models made by this tool can be used"
        case .badContract(let file, let error):
            "'\(file)': \(error.errorDescription ?? "bad contract")"
        case .wrongComponent(let file, let expected, let found):
            "'\(file)' is the \(found.rawValue), not the \(expected.rawValue); check which file is given as what"
        case .onlyPart(let file, let component, let part):
            "'\(file)' is part \(part.number) of \(part.of) of the \(component.rawValue);"
                + " export it again without --split-encoder"
        case .unsupportedProfile(let file, let profile, let supported):
            "'\(file)' has profile '\(profile)'; export it with one of: \(supported.joined(separator: ", "))"
        case .differentModels(let encoder, let decoder):
            "encoder of '\(encoder)' with decoder of '\(decoder)'; give both files of one model"
        case .differentFrames(let encoder, let decoder):
            "encoder of frame \(encoder) with decoder of frame \(decoder); give both files of one export"
        case .contractBroken(let file, let detail):
            "'\(file)' is not what its contract says: \(detail); export it again"
        case .unknownFunction(let name, let known):
            "the decoder has no function '\(name)'; it has: \(known.joined(separator: ", "))"
        case .systemTooOld(let feature, let needs):
            "\(feature) needs \(needs); leave it out on older systems"
        case .picture(let error):
            error.errorDescription
        case .pixelFormat(let found):
            "pixel buffer has format '\(found)'; ask the camera or decoder for kCVPixelFormatType_32BGRA or"
                + " kCVPixelFormatType_420YpCbCr8BiPlanarFullRange"
        case .colourMatrix(let found):
            "video frame was made with the matrix '\(found)'; ask for ITU-R BT.601, BT.709 or BT.2020, or for 32BGRA"
        case .unreadableImage(let source, let detail):
            "image '\(source)' cannot be read: \(oneLine(detail)); check that it is complete and of a format that the"
                + " system reads"
        case .elementType(let code):
            "array has elements of Core ML's type \(code); give 16, 32 or 64-bit floats or 32-bit integers"
        case .incompletePackage(let file, let missing):
            "'\(file)' is incomplete, it has no '\(missing)'; copy or download the whole package again"
        case .noPixels(let detail):
            "image cannot be read: \(detail)"
        case .prompt(let error):
            error.errorDescription
        case .maskPromptNotTaken:
            "this decoder takes no mask prompt; export it again with --mask-input"
        case .foreignEmbedding(let embedding, let predictor):
            "embedding of '\(embedding)' given to a predictor of '\(predictor)'; call setImage of this predictor"
        case .predictionFailed(let stage, let reason):
            "Core ML could not run the \(stage.rawValue): \(oneLine(reason)); try again, or other compute units"
        case .badScores(let error):
            error.errorDescription
        case .unloaded:
            "the models were unloaded; call load() before the next image or prompt"
        }
    }

    /// The first line of what another library says.
    private func oneLine(_ reason: String) -> String {
        reason.split(whereSeparator: \.isNewline).first.map(String.init) ?? "no reason given"
    }
}
