import Foundation

// The few Core Foundation names that Core Video's functions mention.  Foundation on Linux keeps its own to itself.

/// Stand-in for <https://developer.apple.com/documentation/corefoundation/cfallocator>.  Nobody here allocates with one.
public final class CFAllocator: Sendable {
    fileprivate init() {}
}

/// Stand-in for <https://developer.apple.com/documentation/corefoundation/kcfallocatordefault>.
public let kCFAllocatorDefault: CFAllocator? = nil

/// Stand-in for <https://developer.apple.com/documentation/corefoundation/cfstring>.
public typealias CFString = String

/// Stand-in for <https://developer.apple.com/documentation/corefoundation/cfdictionary>.
public typealias CFDictionary = [AnyHashable: Any]

/// Stand-in for <https://developer.apple.com/documentation/kernel/ostype>.
public typealias OSType = UInt32

/// Stand-in for <https://developer.apple.com/documentation/corefoundation/cftyperef>.
public typealias CFTypeRef = AnyHashable
