/// Decoder inputs for one prompt.
public struct PackedPrompt: Sendable, Hashable {
    /// x, y of each slot in pixels of the prompt frame: (1, slots, 2), row-major.
    public var coords: [Float]
    /// Label of each slot: (1, slots).
    public var labels: [Float]

    public init(coords: [Float], labels: [Float]) {
        self.coords = coords
        self.labels = labels
    }

    /// Number of slots, empty ones included.
    public var slots: Int { labels.count }
}

/// Turns prompts in source pixels into decoder inputs: points, then the box's corners, then empty slots.
public enum PromptPacker {
    /// Labels of a box's top left and bottom right corner.
    public static let boxLabels: [Float] = [2, 3]
    /// Label of SAM's padding point: it takes part as a token with the learned not-a-point vector.
    public static let notAPoint: Float = -1
    /// Label of an unused prompt slot: it takes no part in anything.
    public static let emptySlot: Float = -2

    /// Pack a prompt; `slots` is the decoder's number of prompt slots, nil where it is free.
    ///
    /// Points without a box are followed by one not-a-point token when the frame says so; a mask prompt alone is that
    /// token and nothing else. With the frame's `boxPaddingPoint` the corners precede the points, a box is followed by
    /// that token too, and a mask alone is an empty slot.
    public static func pack(
        _ prompt: Prompt, geometry: ImageGeometry, slots: Int?
    ) throws(PromptError) -> PackedPrompt {
        try check(prompt, in: geometry.source)
        var packed = PackedPrompt(coords: [], labels: [])
        func append(_ x: Double, _ y: Double, _ label: Float) {
            let moved = geometry.toPromptFrame(x: x, y: y)
            packed.coords += [moved.x, moved.y]
            packed.labels.append(label)
        }
        func appendBox() {
            guard let box = prompt.box else { return }
            append(box.x0, box.y0, boxLabels[0])
            append(box.x1, box.y1, boxLabels[1])
        }
        if geometry.frame.boxPaddingPoint { appendBox() }
        for point in prompt.points { append(point.x, point.y, Float(point.label.rawValue)) }
        if !geometry.frame.boxPaddingPoint { appendBox() }
        if isPadded(prompt, frame: geometry.frame) { append(0, 0, notAPoint) }
        let slots = slots ?? max(packed.slots, 1)
        let used = packed.slots
        guard used <= slots else {
            throw .tooManySlots(needed: used, slots: slots, points: prompt.points.count, hasBox: prompt.box != nil)
        }
        packed.coords += [Float](repeating: 0, count: 2 * (slots - used))
        packed.labels += [Float](repeating: emptySlot, count: slots - used)
        return packed
    }

    private static func isPadded(_ prompt: Prompt, frame: ImageFrame) -> Bool {
        if frame.boxPaddingPoint { return !prompt.points.isEmpty || prompt.box != nil }
        return prompt.box == nil && (frame.paddingPoint || prompt.points.isEmpty)
    }

    static func check(_ prompt: Prompt, in size: PixelSize) throws(PromptError) {
        if prompt.points.isEmpty && prompt.box == nil && prompt.maskLogits == nil { throw .empty }
        let (width, height) = (Double(size.width), Double(size.height))
        for point in prompt.points {
            // Written so that NaN fails.
            guard point.x >= 0, point.x < width, point.y >= 0, point.y < height else {
                throw .pointOutside(point, picture: size)
            }
        }
        if let box = prompt.box {
            let inside =
                [box.x0, box.x1].allSatisfy { $0 >= 0 && $0 <= width }
                && [box.y0, box.y1].allSatisfy { $0 >= 0 && $0 <= height }
            guard inside else { throw .boxOutside(box, picture: size) }
            guard box.x0 < box.x1, box.y0 < box.y1 else { throw .boxReversed(box) }
        }
        if let logits = prompt.maskLogits {
            guard logits.count == Prompt.maskSide * Prompt.maskSide else { throw .maskSize(count: logits.count) }
            if let index = logits.firstIndex(where: { !$0.isFinite }) { throw .maskNotFinite(index: index) }
        }
    }
}
