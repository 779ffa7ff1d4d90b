import EdgeSAMCore
import Testing

struct PromptTests {
    let geometry = ImageGeometry(source: PixelSize(width: 100, height: 50), frame: ImageFrame())

    @Test func maskAloneIsTheNotAPointToken() throws {
        let prompt = Prompt.mask([Float](repeating: 0, count: 256 * 256))
        #expect(try PromptPacker.pack(prompt, geometry: geometry, slots: 2).labels == [-1, -2])
    }

    @Test func frameWithoutPaddingPointAddsNone() throws {
        let bare = ImageGeometry(source: PixelSize(width: 100, height: 50), frame: ImageFrame(paddingPoint: false))
        #expect(try PromptPacker.pack(.point(10, 10), geometry: bare, slots: nil).labels == [1])
        #expect(try PromptPacker.pack(.point(10, 10), geometry: bare, slots: 1).labels == [1])
    }

    @Test func coordinatesAreScaledByTheFrame() throws {
        let packed = try PromptPacker.pack(.point(50, 25, .background), geometry: geometry, slots: nil)
        #expect(packed == PackedPrompt(coords: [512, 256, 0, 0], labels: [0, -1]))
    }

    static let badPrompts: [(Prompt, String)] = [
        (Prompt(), "no prompt: give at least one point, a box or a mask"),
        (
            .point(100, 0.5),
            "point (100, 0.5) is outside the image of 100x50 pixels;"
                + " x must be at least 0 and below 100, y at least 0 and below 50"
        ),
        (
            .point(.nan, 0),
            "point (nan, 0) is outside the image of 100x50 pixels;"
                + " x must be at least 0 and below 100, y at least 0 and below 50"
        ),
        (
            .box(0, 0, 101, 50),
            "box (0, 0, 101, 50) is outside the image of 100x50 pixels; x must lie in 0 to 100 and y in 0 to 50"
        ),
        (
            .box(5, 5, 5, 9),
            "box (5, 5, 5, 9) is reversed or empty; give two corners x0 y0 x1 y1 with x0 below x1 and y0 below y1,"
                + " not a corner with width and height"
        ),
        (
            .box(0, 0, .infinity, 9),
            "box (0, 0, inf, 9) is outside the image of 100x50 pixels; x must lie in 0 to 100 and y in 0 to 50"
        ),
        (.mask([1]), "the mask prompt has 1 values; give the 256x256 logits of an earlier prediction"),
    ]

    @Test(arguments: badPrompts)
    func badPromptIsToldInOneLine(_ prompt: Prompt, _ message: String) {
        let error = #expect(throws: PromptError.self) { try PromptPacker.pack(prompt, geometry: geometry, slots: 8) }
        #expect(error?.localizedDescription == message)
    }

    @Test(arguments: [
        (Prompt.box(0.2, 0.3, 0.6, 0.8), true), (.box(0, 0, 1, 1), true), (.point(0.5, 0.25), true),
        (.point(1, 1), false), (.point(0, 0), false), (.point(0.5, 7), false), (.box(0, 0, 2, 2), false),
    ])
    func sharesOfTheSidesAreWarnedOf(_ prompt: Prompt, _ warned: Bool) {
        let found = prompt.warnings(in: geometry.source)
        #expect(found.count == (warned ? 1 : 0))
        #expect(found.allSatisfy { $0.contains("within one pixel of the image of 100x50") })
        #expect(prompt.warnings(in: PixelSize(width: 1, height: 1)).isEmpty)
    }

    @Test func aMaskInPlaceOfLogitsIsWarnedOf() {
        var logits = [Float](repeating: 1, count: 256 * 256)
        let found = Prompt.mask(logits).warnings(in: geometry.source)
        #expect(found.count == 1 && found[0].hasPrefix("the mask prompt has no negative value"))
        logits[7] = -1
        #expect(Prompt.mask(logits).warnings(in: geometry.source).isEmpty)
    }

    // Not an argument of the test above: its 65536 values would be printed.
    @Test func maskThatIsNotFiniteIsToldByRowAndColumn() {
        let prompt = Prompt.mask(
            [Float](repeating: 0, count: 258) + [.nan] + [Float](repeating: 0, count: 65_277))
        let message = "the mask prompt is not finite at row 1, column 2; give the logits of an earlier prediction"
        let error = #expect(throws: PromptError.self) { try PromptPacker.pack(prompt, geometry: geometry, slots: 8) }
        #expect(error?.localizedDescription == message)
    }

    @Test func promptThatNeedsMoreSlotsSaysHowMany() {
        let prompt = Prompt(points: [PromptPoint(x: 1, y: 1), PromptPoint(x: 2, y: 2)])
        let error = #expect(throws: PromptError.self) { try PromptPacker.pack(prompt, geometry: geometry, slots: 2) }
        #expect(
            error?.localizedDescription == "the prompt needs 3 slots (points: 2, 1 more because there is no box) but"
                + " the decoder has 2; export it again with --points 3 or give fewer points")
    }
}
