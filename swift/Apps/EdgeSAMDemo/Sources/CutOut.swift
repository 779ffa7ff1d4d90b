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
        guard let box = mask.boundingBox else { throw EdgeSAMError.noPixels(detail: "the mask is empty") }
        let area = CGRect(x: box.x0, y: box.y0, width: box.x1 - box.x0, height: box.y1 - box.y0)
        let file = NSMutableData()
        guard let object = try image.cutOut(mask).cgImage()?.cropping(to: area),
            let target = CGImageDestinationCreateWithData(
                file as CFMutableData, UTType.png.identifier as CFString, 1, nil)
        else {
            throw EdgeSAMError.noPixels(detail: "no PNG can be made of \(mask.size.width)x\(mask.size.height) pixels")
        }
        CGImageDestinationAddImage(target, object, nil)
        guard CGImageDestinationFinalize(target) else {
            throw EdgeSAMError.noPixels(detail: "the PNG was not finished")
        }
        return Data(referencing: file)
    }
}
