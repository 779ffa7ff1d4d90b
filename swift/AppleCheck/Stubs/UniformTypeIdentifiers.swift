// The part of Uniform Type Identifiers that the demo uses, without behaviour.
/// <https://developer.apple.com/documentation/uniformtypeidentifiers/uttype-swift.struct>
@available(iOS 14.0, macOS 11.0, *)
public struct UTType: Equatable, Sendable {
    public var identifier: String { "" }
    public static let png = UTType()
}
