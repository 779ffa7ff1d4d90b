import EdgeSAM
import EdgeSAMUI
import Testing

@Suite struct PictureTests {
    private func pixel(_ image: RGBImage, _ x: Int, _ y: Int) -> [UInt8] {
        Array(image.pixels[(y * image.width + x) * 3..<(y * image.width + x) * 3 + 3])
    }

    private func square(_ size: PixelSize, _ columns: Range<Int>, _ rows: Range<Int>) throws -> BinaryMask {
        try BinaryMask(
            size: size,
            bits: (0..<size.area).map {
                columns.contains($0 % size.width) && rows.contains($0 / size.width) ? 1 : 0
            })
    }

    @Test func nothingMarkedIsTheImage() async throws {
        let image = try grey(30, 20)
        #expect(await SelectionPicture(image: image).render() == image)
    }

    @Test func aMaskIsTintedInsideAndOutlinedOnItsEdge() async throws {
        let image = try grey(300, 300)
        let mask = try square(image.size, 100..<200, 100..<200)
        let drawn = try #require(await SelectionPicture(image: image, mask: mask).render())
        let style = SelectionStyle()
        let tinted = try image.overlay(mask, color: style.mask, opacity: style.maskOpacity)
        #expect(pixel(drawn, 150, 150) == pixel(tinted, 150, 150))
        #expect(pixel(drawn, 150, 150) != [100, 100, 100])
        #expect(pixel(drawn, 50, 50) == [100, 100, 100])
        for edge in [(100, 150), (199, 150), (150, 100), (150, 199)] {
            #expect(pixel(drawn, edge.0, edge.1)[0] > 150, "no outline at \(edge)")
        }
    }

    @Test func marksLieWhereTheyWereMadeAndTellThemselvesApart() async throws {
        let image = try grey(500, 500)
        let selection = Selection(
            points: [PromptPoint(x: 100.9, y: 200.2), PromptPoint(x: 300, y: 200, label: .background)],
            box: PromptBox(x0: 20, y0: 30, x1: 480, y1: 470))
        let drawn = try #require(await SelectionPicture(image: image, selection: selection).render())
        let style = SelectionStyle()
        // Beside the sign in the middle, inside the disc.
        #expect(pixel(drawn, 103, 203) == [style.foreground.red, style.foreground.green, style.foreground.blue])
        #expect(pixel(drawn, 303, 203) == [style.background.red, style.background.green, style.background.blue])
        #expect(pixel(drawn, 100, 202) == [255, 255, 255])  // the plus has an arm here, the minus has not
        #expect(pixel(drawn, 300, 203) != [255, 255, 255])
        for edge in [(20, 250), (479, 250), (250, 30), (250, 469)] {
            #expect(pixel(drawn, edge.0, edge.1)[2] < 60, "no box at \(edge)")
        }
        #expect(pixel(drawn, 250, 250) == [100, 100, 100])
    }

    @Test func marksAtTheEdgesAndOnOnePixelAreCutOff() async throws {
        let image = try grey(1, 1)
        let selection = Selection(points: [PromptPoint(x: 0, y: 0)], box: PromptBox(x0: 0, y0: 0, x1: 1, y1: 1))
        let mask = try BinaryMask(size: image.size, bits: [1])
        let drawn = try #require(await SelectionPicture(image: image, mask: mask, selection: selection).render())
        #expect(drawn.size == image.size && drawn != image)
    }

    @Test func aMaskOfAnotherImageDrawsNothing() async throws {
        let mask = try square(PixelSize(width: 3, height: 3), 0..<1, 0..<1)
        #expect(await SelectionPicture(image: try grey(4, 3), mask: mask).render() == nil)
    }
}
