// The part of Core Transferable that the demo uses, without behaviour.
@_exported import Foundation
import UniformTypeIdentifiers

/// <https://developer.apple.com/documentation/coretransferable/transferable>
@available(iOS 16.0, macOS 13.0, *)
public protocol Transferable {
    associatedtype Representation: TransferRepresentation
    static var transferRepresentation: Representation { get }
}
@available(iOS 16.0, macOS 13.0, *)
public protocol TransferRepresentation: Sendable { associatedtype Item: Transferable }
/// <https://developer.apple.com/documentation/coretransferable/datarepresentation>
@available(iOS 16.0, macOS 13.0, *)
public struct DataRepresentation<Item: Transferable>: TransferRepresentation {
    public init(
        exportedContentType: UTType, exporting: @escaping @Sendable (Item) async throws -> Data
    ) {}
}
@available(iOS 16.0, macOS 13.0, *)
extension TransferRepresentation {
    /// <https://developer.apple.com/documentation/coretransferable/transferrepresentation/suggestedfilename(_:)-70xsb>
    public func suggestedFileName(_ fileName: String) -> some TransferRepresentation { self }
}
@available(iOS 16.0, macOS 13.0, *)
extension Data: Transferable {
    public static var transferRepresentation: DataRepresentation<Data> { fatalError() }
}
