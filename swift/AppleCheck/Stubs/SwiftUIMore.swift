// The part of SwiftUI that EdgeSAMUI and the demo use, beside ../../Apps/TypeCheck/SwiftUI.swift: it needs Core Graphics.
@_exported import CoreGraphics

extension Color {
    public static let clear = Color(), yellow = Color(), red = Color()
}
public protocol Shape: View, Sendable {}
extension Shape {
    public nonisolated func stroke<S: ShapeStyle>(_ content: S, lineWidth: CGFloat = 1) -> some View { EmptyView() }
}
public struct EmptyView: Leaf { public nonisolated init() {} }
public struct Rectangle: Shape, Leaf { public nonisolated init() {} }

/// <https://developer.apple.com/documentation/swiftui/geometryproxy>
public struct GeometryProxy: Sendable { public var size: CGSize { .zero } }
public struct GeometryReader<Content: View>: Leaf {
    public init(@ViewBuilder content: @escaping (GeometryProxy) -> Content) {}
}
/// <https://developer.apple.com/documentation/swiftui/contentunavailableview>
@available(iOS 17.0, macOS 14.0, visionOS 1.0, *)
public struct ContentUnavailableView: Leaf {
    public init(_ title: String, systemImage name: String, description: Text? = nil) {}
}
public struct ZStack<V: View>: Leaf {
    public init(alignment: Alignment = .center, @ViewBuilder content: () -> V) {}
}
public struct HStack<V: View>: Leaf {
    public init(alignment: VerticalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> V) {}
}

extension Image {
    public init(decorative cgImage: CGImage, scale: CGFloat) { self.init(systemName: "") }
    public func resizable() -> Image { self }
}
extension Button where Title == Text {
    /// <https://developer.apple.com/documentation/swiftui/button/init(_:systemimage:action:)>
    @available(iOS 14.0, macOS 11.0, visionOS 1.0, *)
    public init(_ title: String, systemImage: String, action: @escaping @MainActor () -> Void) { fatalError() }
    public init(_ title: String, action: @escaping @MainActor () -> Void) { fatalError() }
}

public enum LabelStyle: Sendable { case iconOnly, titleAndIcon }

/// <https://developer.apple.com/documentation/swiftui/draggesture>
public struct DragGesture: Gesture {
    public struct Value: Equatable, Sendable {
        public var time: Date
        public var location: CGPoint
        public var startLocation: CGPoint
    }
    public nonisolated init(minimumDistance: CGFloat = 10) {}
}
public struct Transaction {}
@MainActor @preconcurrency public protocol Gesture { associatedtype Value }
extension Gesture {
    public func updating<State>(
        _ state: GestureState<State>, body: @escaping (Value, inout State, inout Transaction) -> Void
    ) -> AnyGesture<Value> { fatalError() }
    public func onChanged(_ action: @escaping (Value) -> Void) -> AnyGesture<Value> { fatalError() }
    public func onEnded(_ action: @escaping (Value) -> Void) -> AnyGesture<Value> { fatalError() }
}
public struct AnyGesture<Value>: Gesture {}
@MainActor @propertyWrapper public struct GestureState<Value> {
    public init(wrappedValue: Value) {}
    public var wrappedValue: Value { fatalError() }
    public var projectedValue: GestureState<Value> { self }
}

extension View {
    public func frame(width: CGFloat? = nil, height: CGFloat? = nil) -> some View { self }
    public func offset(x: CGFloat = 0, y: CGFloat = 0) -> some View { self }
    public func contentShape<S: Shape>(_ shape: S) -> some View { self }
    public func gesture<G: Gesture>(_ gesture: G) -> some View { self }
    public func disabled(_ disabled: Bool) -> some View { self }
    public func labelStyle(_ style: LabelStyle) -> some View { self }
    /// <https://developer.apple.com/documentation/swiftui/view/onchange(of:initial:_:)-8wgw9>
    @available(iOS 17.0, macOS 14.0, visionOS 1.0, *)
    public func onChange<V: Equatable>(
        of value: V, initial: Bool = false, _ action: @escaping (V, V) -> Void
    ) -> some View { self }
}
