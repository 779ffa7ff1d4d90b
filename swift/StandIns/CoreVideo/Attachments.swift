// The names are Core Video's.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import Foundation

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvattachmentmode>.
public enum CVAttachmentMode: UInt32, Sendable {
    case shouldNotPropagate = 0
    case shouldPropagate
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvbuffersetattachment(_:_:_:_:)>.
public func CVBufferSetAttachment(
    _ buffer: CVBuffer, _ key: CFString, _ value: CFTypeRef, _ attachmentMode: CVAttachmentMode
) {
    buffer.attachments[key] = value
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/cvbuffercopyattachment(_:_:_:)>.
@available(iOS 15.0, macOS 12.0, visionOS 1.0, *)
public func CVBufferCopyAttachment(
    _ buffer: CVBuffer, _ key: CFString, _ attachmentMode: UnsafeMutablePointer<CVAttachmentMode>?
) -> CFTypeRef? {
    buffer.attachments[key]
}

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvimagebufferycbcrmatrixkey>.
public let kCVImageBufferYCbCrMatrixKey: CFString = "CVImageBufferYCbCrMatrix"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvimagebufferycbcrmatrix_itu_r_601_4>.
public let kCVImageBufferYCbCrMatrix_ITU_R_601_4: CFString = "ITU_R_601_4"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvimagebufferycbcrmatrix_itu_r_709_2>.
public let kCVImageBufferYCbCrMatrix_ITU_R_709_2: CFString = "ITU_R_709_2"

/// Stand-in for <https://developer.apple.com/documentation/corevideo/kcvimagebufferycbcrmatrix_itu_r_2020>.
public let kCVImageBufferYCbCrMatrix_ITU_R_2020: CFString = "ITU_R_2020"
