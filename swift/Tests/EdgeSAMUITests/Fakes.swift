import EdgeSAM
import EdgeSAMUI
import Foundation

/// A failure with words for a person.
struct Trouble: LocalizedError {
    let errorDescription: String?

    init(_ words: String) { errorDescription = words }
}

/// Lets those that wait go on once it is open.
actor Gate {
    private var isOpen: Bool
    private var waiting: [CheckedContinuation<Void, Never>] = []
    /// How many have come so far.
    private(set) var arrivals = 0

    init(isOpen: Bool = false) { self.isOpen = isOpen }

    func pass() async {
        arrivals += 1
        if !isOpen { await withCheckedContinuation { waiting.append($0) } }
    }

    func open() {
        isOpen = true
        for waiter in waiting { waiter.resume() }
        waiting = []
    }

    /// Returns once somebody waits.
    func arrival(_ count: Int = 1) async {
        while arrivals < count { await Task.yield() }
    }
}

/// A predictor that answers as it is told to, and notes what it is asked.
final class FakeEngine: SegmentationEngine, @unchecked Sendable {  // everything that varies is only used under `lock`
    typealias Answer = @Sendable (Prompt, PixelSize) async throws -> [MaskChoice]
    typealias Encode = @Sendable (RGBImage) async throws -> Void

    private let lock = NSLock()
    private var answer: Answer
    private var encoding: Encode
    private var notes: [String] = []
    private var asked: [Prompt] = []

    var log: [String] { lock.withLock { notes } }
    var prompts: [Prompt] { lock.withLock { asked } }

    /// Answers with three candidates, of which the second is the best, unless told otherwise.
    init(_ answer: @escaping Answer = { prompt, size in try choices([0.5, 0.9, 0.9], for: prompt, size) }) {
        self.answer = answer
        encoding = { _ in }
    }

    convenience init(encode: @escaping Encode) {
        self.init()
        encodes(encode)
    }

    func answers(_ answer: @escaping Answer) { lock.withLock { self.answer = answer } }

    func encodes(_ encode: @escaping Encode) { lock.withLock { encoding = encode } }

    func note(_ text: String) { lock.withLock { notes.append(text) } }

    func encode(_ image: RGBImage) async throws -> any EncodedImage {
        note("encode \(image.width)x\(image.height)")
        try await lock.withLock { encoding }(image)
        return Encoded(engine: self, size: image.size)
    }

    private struct Encoded: EncodedImage {
        let engine: FakeEngine
        let size: PixelSize

        func masks(for prompt: Prompt) async throws -> [MaskChoice] {
            engine.note("predict")
            let answer = engine.lock.withLock {
                engine.asked.append(prompt)
                return engine.answer
            }
            return try await answer(prompt, size)
        }
    }
}

/// One candidate for each score: a square of as many pixels' side as the prompt has marks, moved by its number.
func choices(_ scores: [Float], for prompt: Prompt, _ size: PixelSize) throws -> [MaskChoice] {
    let side = prompt.points.count + (prompt.box == nil ? 0 : 4)
    return try scores.enumerated().map { index, score in
        var bits = [UInt8](repeating: 0, count: size.area)
        for y in index..<min(index + side, size.height) {
            for x in 0..<min(side, size.width) { bits[y * size.width + x] = 1 }
        }
        return MaskChoice(id: index, score: score, mask: try BinaryMask(size: size, bits: bits))
    }
}

func grey(_ width: Int, _ height: Int, _ value: UInt8 = 100) throws -> RGBImage {
    try RGBImage(width: width, height: height, pixels: [UInt8](repeating: value, count: width * height * 3))
}
