import EdgeSAM
import EdgeSAMUI
import Foundation
import Testing

@Suite struct ImageFitTests {
    @Test(arguments: [
        // image, view, expected frame
        ((200, 100), (100, 100), CGRect(x: 0, y: 25, width: 100, height: 50)),
        ((100, 200), (300, 100), CGRect(x: 125, y: 0, width: 50, height: 100)),
        ((50, 50), (100, 100), CGRect(x: 0, y: 0, width: 100, height: 100)),
    ])
    func anImageLiesWholeInTheMiddle(pixels: (Int, Int), points: (Int, Int), frame: CGRect) {
        let image = PixelSize(width: pixels.0, height: pixels.1)
        let fit = ImageFit(image: image, view: CGSize(width: points.0, height: points.1))
        #expect(fit.frame == frame)
        let corner = CGPoint(x: frame.minX, y: frame.minY)
        #expect(fit.pixel(at: corner) == CGPoint.zero)
        let middle = CGPoint(x: frame.midX, y: frame.midY)
        #expect(fit.pixel(at: middle) == CGPoint(x: CGFloat(image.width) / 2, y: CGFloat(image.height) / 2))
        let end = CGPoint(x: frame.maxX, y: frame.maxY)
        #expect(fit.pixel(at: end) == nil)  // the first pixel beside the image
        let whole = PromptBox(x0: 0, y0: 0, x1: Double(image.width), y1: Double(image.height))
        #expect(fit.box(from: end, to: corner) == whole)
        #expect(fit.frame(of: whole) == frame)
    }

    @Test func aPointBesideTheImageIsNone() {
        let fit = ImageFit(image: PixelSize(width: 200, height: 100), view: CGSize(width: 100, height: 100))
        for point in [CGPoint(x: 50, y: 24), CGPoint(x: 50, y: 76), CGPoint(x: -1, y: 50), CGPoint(x: 101, y: 50)] {
            #expect(fit.pixel(at: point) == nil)
        }
        #expect(fit.pixel(at: CGPoint(x: 99.9, y: 25)) == CGPoint(x: 199.8, y: 0))
    }

    @Test func aBoxIsCutOffAtTheEdges() {
        let fit = ImageFit(image: PixelSize(width: 200, height: 100), view: CGSize(width: 100, height: 100))
        let box = fit.box(from: CGPoint(x: -50, y: 0), to: CGPoint(x: 30, y: 35))
        #expect(box == PromptBox(x0: 0, y0: 0, x1: 60, y1: 20))
        #expect(fit.box(from: CGPoint(x: 10, y: 0), to: CGPoint(x: 60, y: 20)) == nil)  // above the image
        #expect(fit.box(from: CGPoint(x: 10, y: 50), to: CGPoint(x: 10.4, y: 60)) == nil)  // less than a pixel
    }

    @Test func aViewWithoutSizeHasNoPixels() {
        for view in [CGSize.zero, CGSize(width: 0, height: 10), CGSize(width: -1, height: 5)] {
            let fit = ImageFit(image: PixelSize(width: 2, height: 2), view: view)
            #expect(fit.pixel(at: .zero) == nil)
            #expect(fit.box(from: .zero, to: CGPoint(x: 9, y: 9)) == nil)
        }
    }
}

@Suite struct TouchTrackerTests {
    let start = CGPoint(x: 10, y: 10)

    private func touched(at time: TimeInterval = 5) -> TouchTracker {
        var tracker = TouchTracker(slop: 10, holdS: 0.5)
        #expect(tracker.moved(from: start, to: start, at: time) == nil)
        return tracker
    }

    @Test func aShortTouchIsATapWhereItBegan() {
        var tracker = touched()
        #expect(tracker.moved(from: start, to: CGPoint(x: 16, y: 18), at: 5.1) == nil)  // exactly 10 points away
        #expect(tracker.held(until: 5.49) == nil)
        #expect(tracker.ended(from: start, at: CGPoint(x: 16, y: 18), time: 5.49) == .tap(start))
    }

    @Test func aRestingTouchIsALongPressOnce() {
        var tracker = touched()
        #expect(tracker.held(until: 5.5) == .longPress(start))
        #expect(tracker.held(until: 6) == nil)
        #expect(tracker.moved(from: start, to: CGPoint(x: 90, y: 90), at: 6.1) == nil)
        #expect(tracker.ended(from: start, at: CGPoint(x: 90, y: 90), time: 6.2) == nil)
    }

    @Test func aLongTouchThatNobodyAskedAboutIsALongPressAtItsEnd() {
        var tracker = touched()
        #expect(tracker.ended(from: start, at: start, time: 7) == .longPress(start))
    }

    @Test func aTouchThatLeavesItsPlaceDrags() {
        var tracker = touched()
        let (far, near) = (CGPoint(x: 40, y: 50), CGPoint(x: 12, y: 10))
        #expect(tracker.moved(from: start, to: far, at: 5.1) == .drag(from: start, to: far))
        #expect(tracker.held(until: 9) == nil)
        // It stays a drag on its way back.
        #expect(tracker.moved(from: start, to: near, at: 9) == .drag(from: start, to: near))
        #expect(tracker.ended(from: start, at: far, time: 9.1) == .drag(from: start, to: far))
    }

    @Test func aFastFlickIsADragThoughOnlyItsEndIsFar() {
        var tracker = touched()
        let far = CGPoint(x: 300, y: 10)
        #expect(tracker.ended(from: start, at: far, time: 5.05) == .drag(from: start, to: far))
    }

    @Test func aTouchThatTheSystemTookAwayDoesNotMixWithTheNext() {
        var tracker = touched()
        let next = CGPoint(x: 80, y: 80)
        #expect(tracker.moved(from: next, to: next, at: 7) == nil)  // no drag from the first to the second
        #expect(tracker.held(until: 7.4) == nil)
        #expect(tracker.ended(from: next, at: next, time: 7.45) == .tap(next))
        #expect(tracker.held(until: 9) == nil)  // nothing is down
        // A touch of which only the end was seen.
        #expect(tracker.ended(from: start, at: start, time: 10) == .tap(start))
    }
}
