extension Prompt {
    /// What a developer should know of a prompt that can be used, but perhaps not as it is meant; empty for any other.
    ///
    /// The same as the Python package warns of: shares of the image's sides in place of pixels, as Vision has them, and
    /// a mask in place of logits.
    public func warnings(in size: PixelSize) -> [String] {
        var found: [String] = []
        let corners = box.map { [$0.x0, $0.y0, $0.x1, $0.y1] } ?? []
        let coordinates = points.flatMap { [$0.x, $0.y] }
        // (1, 1) is a pixel like any other.
        let fractions = coordinates.contains { $0 != $0.rounded() }
        if Self.withinOnePixel(corners, in: size) || (fractions && Self.withinOnePixel(coordinates, in: size)) {
            found.append(
                "coordinates of a prompt all lie within one pixel of the image of \(size.width)x\(size.height); give"
                    + " pixels from the top left, not shares of width and height")
        }
        if let maskLogits, !maskLogits.contains(where: { $0 < 0 }) {
            found.append(
                "the mask prompt has no negative value; give the logits of an earlier candidate, which are negative"
                    + " outside the object, not a mask of 0 and 1")
        }
        return found
    }

    private static func withinOnePixel(_ coordinates: [Double], in size: PixelSize) -> Bool {
        guard let largest = coordinates.max() else { return false }
        return largest > 0 && largest <= 1 && max(size.width, size.height) > 1
    }
}
