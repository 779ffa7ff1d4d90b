// The part of AppKit that the library uses, without behaviour.
@_exported import CoreGraphics

/// <https://developer.apple.com/documentation/appkit/nsgraphicscontext>
public final class NSGraphicsContext {}

/// <https://developer.apple.com/documentation/appkit/nsimagerep>
public final class NSImageRep {
    public struct HintKey: Hashable, Sendable {}
}

/// <https://developer.apple.com/documentation/appkit/nsimage>
public final class NSImage {
    public init(cgImage: CGImage, size: CGSize) {}
    public func cgImage(
        forProposedRect proposedDestRect: UnsafeMutablePointer<CGRect>?, context referenceContext: NSGraphicsContext?,
        hints: [NSImageRep.HintKey: Any]?
    ) -> CGImage? { nil }
}
