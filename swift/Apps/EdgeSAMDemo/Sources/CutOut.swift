import CoreGraphics
import CoreTransferable
import EdgeSAM
import Foundation
import ImageIO
import UniformTypeIdentifiers

/// The selected object on its own, made into a PNG file when it is shared.
struct CutOut: Transferable, Sendable {
    let image: RGBImage
    let mask: BinaryMask

    static var transferRepresentation: some TransferRepresentation {
        DataRepresentation(exportedContentType: .png) { (cutOut: CutOut) in try cutOut.png() }
            .suggestedFileName("cut-out.png")
    }

    /// A PNG of the mask's bounding box, transparent around the object.
    func png() throws -> Data {
        let pixels = try image.cutOut(mask)
        guard let box = mask.boundingBox else { throw EdgeSAMError.noPixels(detail: "the mask is empty") }
        let area = CGRect(x: box.x0, y: box.y0, width: box.x1 - box.x0, height: box.y1 - box.y0)
        let file = NSMutableData()
        guard let provider = CGDataProvider(data: Data(pixels.pixels) as CFData),
            let space = CGColorSpace(name: CGColorSpace.sRGB),
            let whole = CGImage(
                width: pixels.width, height: pixels.height, bitsPerComponent: 8, bitsPerPixel: 32,
                bytesPerRow: pixels.width * 4, space: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.last.rawValue), provider: provider, decode: nil,
                shouldInterpolate: false, intent: .defaultIntent),
            let part = whole.cropping(to: area),
            let target = CGImageDestinationCreateWithData(
                file as CFMutableData, UTType.png.identifier as CFString, 1, nil)
        else {
            throw EdgeSAMError.noPixels(detail: "the system cannot write a PNG file of \(image.width) pixels' width")
        }
        CGImageDestinationAddImage(target, part, nil)
        guard CGImageDestinationFinalize(target) else {
            throw EdgeSAMError.noPixels(detail: "the system did not finish the PNG file")
        }
        return Data(referencing: file)
    }
}
