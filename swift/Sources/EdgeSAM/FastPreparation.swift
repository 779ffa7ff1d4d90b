import CoreVideo
import EdgeSAMCore

#if canImport(VideoToolbox)
    import VideoToolbox
#endif

/// Camera frames to the encoder's frame, quickly.
enum FastPreparation {
    /// Convert and shrink in one go where the system can; the image is turned when it is small.
    static func prepare(
        _ buffer: CVPixelBuffer, orientation: ImageOrientation, frame: ImageFrame
    ) throws(EdgeSAMError) -> PreparedImage {
        let preparer = ImagePreparer(frame: frame)
        #if canImport(VideoToolbox)
            let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
            guard width > 0, height > 0 else { throw .picture(.size(width: width, height: height)) }
            let upright = orientation.applied(to: PixelSize(width: width, height: height))
            let geometry = ImageGeometry(source: upright, frame: frame)
            // Two sides that change places do so once more on the way back.
            let stored = orientation.applied(to: geometry.scaledSize)
            if let small = transferred(buffer, to: stored) {
                return preparer.pad(try RGBImage(small, orientation: orientation), geometry)
            }
        #endif
        return preparer.prepare(try RGBImage(buffer, orientation: orientation), .fast)
    }

    #if canImport(VideoToolbox)
        /// The buffer as 32BGRA of another size; nil where Video Toolbox cannot make it.
        private static func transferred(_ buffer: CVPixelBuffer, to size: PixelSize) -> CVPixelBuffer? {
            var created: VTPixelTransferSession?
            let status = VTPixelTransferSessionCreate(
                allocator: kCFAllocatorDefault, pixelTransferSessionOut: &created)
            guard status == noErr, let session = created,
                let target = try? PixelBuffers.make(
                    width: size.width, height: size.height, format: kCVPixelFormatType_32BGRA)
            else { return nil }
            defer { VTPixelTransferSessionInvalidate(session) }
            // The default scaling mode stretches to the target's size, which has the image's proportions.
            return VTPixelTransferSessionTransferImage(session, from: buffer, to: target) == noErr ? target : nil
        }
    #endif
}
