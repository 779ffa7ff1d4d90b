// Core Foundation's names beyond those of ../StandIns/CoreVideo/CoreFoundationNames.swift, which this is compiled with.
// The bridges (`as CFData` and so on) need Objective-C, so that the types are the bridged ones.
import Foundation

public typealias CFData = Data
public typealias CFURL = URL
public typealias CFNumber = NSNumber
