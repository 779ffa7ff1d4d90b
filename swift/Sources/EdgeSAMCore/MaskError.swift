import Foundation

/// Why data is not a mask.
public enum MaskError: Error, Equatable, Sendable, LocalizedError {
    case size(PixelSize, values: Int)
    case value(UInt8, index: Int)
    case runs(size: PixelSize, run: Int)
    /// COCO's string of run lengths; `index` is the byte at which it makes no sense.
    case compressed(index: Int)

    public var errorDescription: String? {
        switch self {
        case .size(let size, let values):
            "mask of \(size.width)x\(size.height) pixels has \(values) values; give one for each pixel,"
                + " 1 to \(RGBImage.mostPixels) pixels"
        case .value(let value, let index):
            "mask has value \(value) at pixel \(index); give 0 or 1"
        case .runs(let size, let run):
            "run lengths do not fill the mask of \(size.width)x\(size.height) pixels (at run \(run));"
                + " give positive lengths, the first one of zeros, that add up to its pixels"
        case .compressed(let index):
            "COCO's string of run lengths is damaged at byte \(index); give the whole of 'counts'"
        }
    }
}
