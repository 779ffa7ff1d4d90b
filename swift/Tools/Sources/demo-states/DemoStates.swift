import EdgeSAM
import EdgeSAMUI
import Foundation

/// What the demo shows after each of some gestures, as arrays: the model and the drawing are those of the app.
///
///     demo-states ENCODER DECODER IMAGE.npy OUTPUT STEP ...
///
/// A step is a gesture (x,y a tap, -x,y a long press, x,y,x,y a drag), "undo" or "clear".  OUTPUT gets 0.npy, the image,
/// then N.npy after the Nth step, and cut-out.npy with an alpha channel.
@main
@MainActor
struct DemoStates {
    struct Failure: LocalizedError { let errorDescription: String? }

    let output: URL
    let image: RGBImage
    let model: SegmentationModel

    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        guard arguments.count >= 5 else {
            FileHandle.standardError.write(
                Data("usage: demo-states ENCODER DECODER IMAGE.npy OUTPUT STEP...\n".utf8))
            exit(2)
        }
        do {
            let states = try DemoStates(
                encoder: arguments[0], decoder: arguments[1], image: arguments[2], output: arguments[3])
            try await states.draw(steps: Array(arguments[4...]))
        } catch {
            let words = (error as? any LocalizedError)?.errorDescription ?? "\(error)"
            FileHandle.standardError.write(Data("demo-states: \(words)\n".utf8))
            exit(1)
        }
    }

    init(encoder: String, decoder: String, image: String, output: String) throws {
        self.output = URL(filePath: output)
        let array = try NPYArray(file: Data(contentsOf: URL(filePath: image)))
        self.image = try RGBImage(width: array.shape[1], height: array.shape[0], pixels: array.bytes)
        // The stand-in for Core ML takes these compute units for plain half precision.
        let options = EdgeSAMOptions(
            encoderUnits: .cpuOnly, decoderUnits: .cpuOnly, compiledModels: self.output.appending(path: "compiled"))
        model = SegmentationModel(
            encoder: URL(filePath: encoder), decoder: URL(filePath: decoder), options: options)
    }

    func draw(steps: [String]) async throws {
        model.show(image)
        try await writeState(0)
        let fit = ImageFit(image: image.size, view: CGSize(width: image.width, height: image.height))
        for (number, step) in steps.enumerated() {
            switch step {
            case "undo": model.undo()
            case "clear": model.clear()
            default: model.handle(try Self.gesture(step), in: fit)
            }
            try await writeState(number + 1)
        }
        if let mask = model.state.mask {
            let cutOut = try image.cutOut(mask)
            try write("cut-out", [cutOut.height, cutOut.width, 4], cutOut.pixels)
        }
    }

    private func writeState(_ number: Int) async throws {
        await model.settle()
        if let failure = model.state.failure { throw Failure(errorDescription: failure) }
        guard let picture = model.state.picture else { return }
        try write("\(number)", [picture.height, picture.width, 3], picture.pixels)
    }

    private func write(_ name: String, _ shape: [Int], _ bytes: [UInt8]) throws {
        let file = try NPYArray(shape: shape, type: .uint8, bytes: bytes).file()
        try file.write(to: output.appending(path: "\(name).npy"))
    }

    private static func gesture(_ words: String) throws -> SelectionGesture {
        let numbers = words.split(separator: ",").compactMap { Double($0) }
        switch numbers.count {
        case 2 where numbers[0] < 0: return .longPress(CGPoint(x: -numbers[0], y: numbers[1]))
        case 2: return .tap(CGPoint(x: numbers[0], y: numbers[1]))
        case 4: return .drag(from: CGPoint(x: numbers[0], y: numbers[1]), to: CGPoint(x: numbers[2], y: numbers[3]))
        default: throw Failure(errorDescription: "'\(words)' is no step; give x,y or -x,y or x,y,x,y, undo or clear")
        }
    }
}
