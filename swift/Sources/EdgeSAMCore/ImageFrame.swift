/// The square image a network sees, and the square in which its prompts are given.
public struct ImageFrame: Sendable, Hashable {
    /// How an image is brought into the frame.
    public enum Fit: String, Sendable, Hashable, CaseIterable {
        /// Longest side becomes the frame's side; the rest is padded right and bottom.
        case longestSide = "longest_side"
        /// Both sides become the frame's side; nothing is padded.
        case stretch
        /// The same with antialiasing, rounded to 8 bits once, at the end.
        case stretchAntialias = "stretch_antialias"
    }

    /// How mask logits are brought to the size of the source image.
    public enum MaskResize: String, Sendable, Hashable, CaseIterable {
        /// To the prompt frame, padding cropped, then to source size: SAM's post-processing.
        case bilinear
        /// The part without padding straight to source size, cubic convolution with a = -0.75.
        case bicubic
        /// The part without padding straight to source size, bilinear.
        case bilinearDirect = "bilinear_direct"
    }

    /// Side of the encoder's input, pixels.
    public var size: Int
    /// Side of the frame that prompt coordinates live in, pixels.
    public var promptSize: Int
    /// Mean of each channel, red, green, blue, in 0 to 255.
    public var mean: [Double]
    /// Standard deviation of each channel, red, green, blue, in 0 to 255.
    public var std: [Double]
    /// Colour of the padding in an 8-bit image, red, green, blue.
    public var padColour: [UInt8]
    public var fit: Fit
    public var maskResize: MaskResize
    /// Whether points without a box are followed by one point (0, 0) with label -1.
    public var paddingPoint: Bool
    /// Whether a box is followed by that point too; its corners then precede the points.
    public var boxPaddingPoint: Bool

    /// The defaults are the frame of the Segment Anything models.
    public init(
        size: Int = 1024,
        promptSize: Int = 1024,
        mean: [Double] = [123.675, 116.28, 103.53],
        std: [Double] = [58.395, 57.12, 57.375],
        padColour: [UInt8] = [124, 116, 104],
        fit: Fit = .longestSide,
        maskResize: MaskResize = .bilinear,
        paddingPoint: Bool = true,
        boxPaddingPoint: Bool = false
    ) {
        self.size = size
        self.promptSize = promptSize
        self.mean = mean
        self.std = std
        self.padColour = padColour
        self.fit = fit
        self.maskResize = maskResize
        self.paddingPoint = paddingPoint
        self.boxPaddingPoint = boxPaddingPoint
    }
}
