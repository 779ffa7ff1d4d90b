// The names are Core Video's.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Foundation

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvreturn>.
public typealias CVReturn = Int32

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvoptionflags>.
public typealias CVOptionFlags = UInt64

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvreturnsuccess>.
public let kCVReturnSuccess: CVReturn = 0

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvreturninvalidargument>.
public let kCVReturnInvalidArgument: CVReturn = -6661

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvreturninvalidpixelformat>.
public let kCVReturnInvalidPixelFormat: CVReturn = -6680

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvreturninvalidsize>.
public let kCVReturnInvalidSize: CVReturn = -6681

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbufferlockflags>.
public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: CVOptionFlags

    public init(rawValue: CVOptionFlags) {
        self.rawValue = rawValue
    }

    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffercreate(_:_:_:_:_:_:)>.
@discardableResult
public func CVPixelBufferCreate(
    _ allocator: CFAllocator?, _ width: Int, _ height: Int, _ pixelFormatType: OSType,
    _ pixelBufferAttributes: CFDictionary?, _ pixelBufferOut: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn {
    guard let layout = PixelLayout.all[pixelFormatType] else { return kCVReturnInvalidPixelFormat }
    guard (1...(1 << 16)).contains(width), (1...(1 << 16)).contains(height) else { return kCVReturnInvalidSize }
    pixelBufferOut.pointee = CVPixelBuffer(
        width: width, height: height, pixelFormat: pixelFormatType, layout: layout)
    return kCVReturnSuccess
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbufferlockbaseaddress(_:_:)>.
///
/// Nothing moves a buffer here, so that locking has no effect.
@discardableResult
public func CVPixelBufferLockBaseAddress(
    _ pixelBuffer: CVPixelBuffer, _ lockFlags: CVPixelBufferLockFlags
) -> CVReturn {
    kCVReturnSuccess
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbufferunlockbaseaddress(_:_:)>.
@discardableResult
public func CVPixelBufferUnlockBaseAddress(
    _ pixelBuffer: CVPixelBuffer, _ unlockFlags: CVPixelBufferLockFlags
) -> CVReturn {
    kCVReturnSuccess
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetbaseaddress(_:)>.
public func CVPixelBufferGetBaseAddress(_ pixelBuffer: CVPixelBuffer) -> UnsafeMutableRawPointer? {
    pixelBuffer.storage
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetbytesperrow(_:)>.
public func CVPixelBufferGetBytesPerRow(_ pixelBuffer: CVPixelBuffer) -> Int {
    pixelBuffer.planes[0].bytesPerRow
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetwidth(_:)>.
public func CVPixelBufferGetWidth(_ pixelBuffer: CVPixelBuffer) -> Int {
    pixelBuffer.width
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetheight(_:)>.
public func CVPixelBufferGetHeight(_ pixelBuffer: CVPixelBuffer) -> Int {
    pixelBuffer.height
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetpixelformattype(_:)>.
public func CVPixelBufferGetPixelFormatType(_ pixelBuffer: CVPixelBuffer) -> OSType {
    pixelBuffer.pixelFormat
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetdatasize(_:)>.
public func CVPixelBufferGetDataSize(_ pixelBuffer: CVPixelBuffer) -> Int {
    pixelBuffer.byteCount
}

// MARK: Planes

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbufferisplanar(_:)>.
public func CVPixelBufferIsPlanar(_ pixelBuffer: CVPixelBuffer) -> Bool {
    pixelBuffer.isPlanar
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetplanecount(_:)>; 0 for an image that
/// is not planar.
public func CVPixelBufferGetPlaneCount(_ pixelBuffer: CVPixelBuffer) -> Int {
    pixelBuffer.isPlanar ? pixelBuffer.planes.count : 0
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetbaseaddressofplane(_:_:)>.
public func CVPixelBufferGetBaseAddressOfPlane(
    _ pixelBuffer: CVPixelBuffer, _ planeIndex: Int
) -> UnsafeMutableRawPointer? {
    pixelBuffer.planes.indices.contains(planeIndex)
        ? pixelBuffer.storage + pixelBuffer.planes[planeIndex].offset : nil
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetbytesperrowofplane(_:_:)>.
public func CVPixelBufferGetBytesPerRowOfPlane(_ pixelBuffer: CVPixelBuffer, _ planeIndex: Int) -> Int {
    pixelBuffer.planes.indices.contains(planeIndex) ? pixelBuffer.planes[planeIndex].bytesPerRow : 0
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvpixelbuffergetheightofplane(_:_:)>.
public func CVPixelBufferGetHeightOfPlane(_ pixelBuffer: CVPixelBuffer, _ planeIndex: Int) -> Int {
    pixelBuffer.planes.indices.contains(planeIndex) ? pixelBuffer.planes[planeIndex].height : 0
}
