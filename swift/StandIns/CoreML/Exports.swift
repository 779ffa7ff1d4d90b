// Apple's module passes both on to whoever imports it.
@_exported import CoreVideo
@_exported import Foundation
