// The part of Video Toolbox that the package uses, without behaviour.
// swift-format-ignore-file: AlwaysUseLowerCamelCase
@_exported import CoreVideo

public typealias OSStatus = Int32
public let noErr: OSStatus = 0

/// <https://developer.apple.com/documentation/videotoolbox/vtpixeltransfersession>
@available(iOS 16.0, macOS 10.8, visionOS 1.0, *)
public final class VTPixelTransferSession {}

/// <https://developer.apple.com/documentation/videotoolbox/vtpixeltransfersessioncreate(allocator:pixeltransfersessionout:)>
@available(iOS 16.0, macOS 10.8, visionOS 1.0, *)
public func VTPixelTransferSessionCreate(
    allocator: CFAllocator?, pixelTransferSessionOut: UnsafeMutablePointer<VTPixelTransferSession?>
) -> OSStatus { 0 }

/// <https://developer.apple.com/documentation/videotoolbox/vtpixeltransfersessiontransferimage(_:from:to:)>
@available(iOS 16.0, macOS 10.8, visionOS 1.0, *)
public func VTPixelTransferSessionTransferImage(
    _ session: VTPixelTransferSession, from sourceBuffer: CVPixelBuffer, to destinationBuffer: CVPixelBuffer
) -> OSStatus { 0 }

/// <https://developer.apple.com/documentation/videotoolbox/vtpixeltransfersessioninvalidate(_:)>
@available(iOS 16.0, macOS 10.8, visionOS 1.0, *)
public func VTPixelTransferSessionInvalidate(_ session: VTPixelTransferSession) {}
