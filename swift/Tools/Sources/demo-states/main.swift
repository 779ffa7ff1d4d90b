import EdgeSAM
import EdgeSAMUI
import Foundation

// What the demo shows after each of some gestures, as arrays: the model and the drawing are those of the app.
//
//     demo-states ENCODER DECODER IMAGE.npy OUTPUT STEP ...
//
// A step is a gesture (x,y a tap, -x,y a long press, x,y,x,y a drag), "undo" or "clear".  OUTPUT gets 0.npy, the image,
// then N.npy after the Nth step, and cut-out.npy with an alpha channel.
let arguments = CommandLine.arguments.dropFirst().map { $0 }
guard arguments.count >= 5 else {
    FileHandle.standardError.write(Data("usage: demo-states ENCODER DECODER IMAGE.npy OUTPUT STEP...\n".utf8))
    exit(2)
}
let (encoder, decoder) = (URL(filePath: arguments[0]), URL(filePath: arguments[1]))
let output = URL(filePath: arguments[3])
let array = try NPYArray(file: Data(contentsOf: URL(filePath: arguments[2])))
let image = try RGBImage(width: array.shape[1], height: array.shape[0], pixels: array.bytes)
let fit = ImageFit(image: image.size, view: CGSize(width: image.width, height: image.height))
let options = EdgeSAMOptions(
    encoderUnits: .cpuOnly, decoderUnits: .cpuOnly, compiledModels: output.appending(path: "compiled"))
let model = SegmentationModel(encoder: encoder, decoder: decoder, options: options)

func write(_ name: String, _ shape: [Int], _ bytes: [UInt8]) throws {
    try NPYArray(shape: shape, type: .uint8, bytes: bytes).file().write(to: output.appending(path: "\(name).npy"))
}

@MainActor func writeState(_ number: Int) async throws {
    await model.settle()
    if let failure = model.state.failure { throw CocoaError(.featureUnsupported, userInfo: ["reason": failure]) }
    guard let picture = model.state.picture else { return }
    try write("\(number)", [picture.height, picture.width, 3], picture.pixels)
}

/// x,y is a tap, -x,y a long press, x,y,x,y a drag.
func gesture(_ words: String) -> SelectionGesture? {
    let numbers = words.split(separator: ",").compactMap { Double($0) }
    switch numbers.count {
    case 2 where numbers[0] < 0: return .longPress(CGPoint(x: -numbers[0], y: numbers[1]))
    case 2: return .tap(CGPoint(x: numbers[0], y: numbers[1]))
    case 4:
        return .drag(from: CGPoint(x: numbers[0], y: numbers[1]), to: CGPoint(x: numbers[2], y: numbers[3]))
    default: return nil
    }
}

model.show(image)
try await writeState(0)
for (number, words) in arguments.dropFirst(4).enumerated() {
    switch words {
    case "undo": model.undo()
    case "clear": model.clear()
    default: if let gesture = gesture(words) { model.handle(gesture, in: fit) }
    }
    try await writeState(number + 1)
}
if let mask = model.state.mask {
    let cutOut = try image.cutOut(mask)
    try write("cut-out", [cutOut.height, cutOut.width, 4], cutOut.pixels)
}
