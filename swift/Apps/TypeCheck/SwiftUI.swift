// The part of SwiftUI that the app uses, without behaviour.  Lets the tests type-check the app where there is no SwiftUI.
// A call that this file lacks is no mistake in the app: add its declaration, as Apple documents it.
@_exported import Foundation

@MainActor @preconcurrency public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}
extension Never: View { public var body: Never { fatalError() } }
@MainActor @preconcurrency public protocol Scene {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
}
extension Never: Scene {}
@MainActor @preconcurrency public protocol App {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
    init()
}
extension App { public static func main() {} }

/// A view without a body; every built-in view is one.
public protocol Leaf: View where Body == Never {}
extension Leaf { public var body: Never { fatalError() } }
extension Optional: View, Leaf where Wrapped: View {}
public struct Tuple: Leaf {}
public struct WindowGroup<Content: View>: Scene {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

@resultBuilder public struct ViewBuilder {
    public static func buildBlock() -> Tuple { Tuple() }
    public static func buildBlock<V: View>(_ view: V) -> V { view }
    public static func buildBlock<each V: View>(_ views: repeat each V) -> Tuple { Tuple() }
    public static func buildExpression<V: View>(_ view: V) -> V { view }
    public static func buildIf<V: View>(_ view: V?) -> V? { view }
    public static func buildEither<V: View>(first: V) -> Tuple { Tuple() }
    public static func buildEither<V: View>(second: V) -> Tuple { Tuple() }
}
@resultBuilder public struct SceneBuilder {
    public static func buildBlock<S: Scene>(_ scene: S) -> S { scene }
}

@MainActor @propertyWrapper public struct State<Value> {
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { fatalError() }
    public init(wrappedValue: Value) {}
}
@MainActor @propertyWrapper public struct Binding<Value> {
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { self }
    public init(projectedValue: Binding<Value>) {}
}
public struct EnvironmentValues { public let scenePhase: ScenePhase, dynamicTypeSize: DynamicTypeSize }
@MainActor @propertyWrapper public struct Environment<Value> {
    public init(_ path: KeyPath<EnvironmentValues, Value>) {}
    public var wrappedValue: Value { fatalError() }
}
public enum ScenePhase: Sendable { case background, inactive, active }
public struct DynamicTypeSize: Sendable { public var isAccessibilitySize: Bool { fatalError() } }

public protocol ShapeStyle: Sendable {}
public struct Color: Leaf, ShapeStyle, Sendable {}
extension ShapeStyle where Self == Color {
    public static var accentColor: Color { Color() }
    public static var green: Color { Color() }
    public static var yellow: Color { Color() }
    public static var orange: Color { Color() }
    public static var red: Color { Color() }
    public static var secondary: Color { Color() }
}
public struct Material: ShapeStyle {}
extension ShapeStyle where Self == Material { public static var bar: Material { Material() } }
public struct Font: Sendable {
    public static let largeTitle = Font(), title2 = Font(), headline = Font(), footnote = Font(), caption = Font()
    public func bold() -> Font { self }
    public func monospaced() -> Font { self }
}
public enum HorizontalAlignment: Sendable { case leading, center, trailing }
public enum VerticalAlignment: Sendable { case top, center, bottom }
public enum Alignment: Sendable { case leading, center, trailing, bottom, topLeading }
public enum VerticalEdge: Sendable { case top, bottom }
public enum EdgeSet: Sendable { case vertical, horizontal, all }
public enum ControlSize: Sendable { case small, regular, large }
public enum AccessibilityChildBehavior: Sendable { case combine, contain, ignore }
public enum ButtonStyle: Sendable { case bordered, borderedProminent }
public enum Selectability: Sendable { case enabled, disabled }

public struct Text: Leaf {
    public enum Case: Sendable { case uppercase, lowercase }
    public init(_ text: String) {}
}
public struct Image: Leaf { public init(systemName: String) {} }
public struct Label: Leaf { public init(_ title: String, systemImage: String) {} }
public struct ProgressView: Leaf {
    public init() {}
    public init(value: Double?, total: Double = 1) {}
}
public struct Button<Title: View>: Leaf {
    public init(action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> Title) {}
}
public struct NavigationStack<Content: View>: Leaf { public init(@ViewBuilder root: () -> Content) {} }
public struct List<Content: View>: Leaf { public init(@ViewBuilder content: () -> Content) {} }
public struct Section<Header: View, Content: View>: Leaf {
    public init(@ViewBuilder content: () -> Content, @ViewBuilder header: () -> Header) {}
}
extension Section where Header == Never {
    public init(@ViewBuilder content: () -> Content) {}
    public init(_ title: String, @ViewBuilder content: () -> Content) {}
}
public struct LabeledContent<Title: View, Content: View>: Leaf {
    public init(@ViewBuilder content: () -> Content, @ViewBuilder label: () -> Title) {}
}
public struct VStack<V: View>: Leaf {
    public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> V) {}
}
public struct ForEach<Data: RandomAccessCollection, ID: Hashable, V: View>: Leaf {
    public init(_ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> V) {}
}
extension ForEach where Data.Element: Identifiable, ID == Data.Element.ID {
    public init(_ data: Data, @ViewBuilder content: @escaping (Data.Element) -> V) {}
}
public protocol Layout: Sendable {}
public struct VStackLayout: Layout { public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil) {} }
public struct HStackLayout: Layout { public init(alignment: VerticalAlignment = .center, spacing: CGFloat? = nil) {} }
@MainActor public struct AnyLayout: Layout {
    public init<L: Layout>(_ layout: L) {}
    public func callAsFunction<V: View>(@ViewBuilder _ content: () -> V) -> some View { content() }
}

extension NotificationCenter { public func publisher(for name: Notification.Name) -> Notification.Name { name } }
extension View {
    public func font(_ font: Font?) -> some View { self }
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { self }
    public func background<S: ShapeStyle>(_ style: S) -> some View { self }
    public func padding(_ edges: EdgeSet = .all, _ length: CGFloat? = nil) -> some View { self }
    public func frame(maxWidth: CGFloat? = nil, alignment: Alignment = .center) -> some View { self }
    public func monospacedDigit() -> some View { self }
    public func textCase(_ textCase: Text.Case?) -> some View { self }
    public func textSelection(_ selectability: Selectability) -> some View { self }
    public func controlSize(_ size: ControlSize) -> some View { self }
    public func buttonStyle(_ style: ButtonStyle) -> some View { self }
    public func navigationTitle(_ title: String) -> some View { self }
    public func safeAreaInset<V: View>(edge: VerticalEdge, @ViewBuilder content: () -> V) -> some View { self }
    public func accessibilityHidden(_ hidden: Bool) -> some View { self }
    public func accessibilityLabel(_ label: String) -> some View { self }
    public func accessibilityValue(_ value: String) -> some View { self }
    public func accessibilityHint(_ hint: String) -> some View { self }
    public func accessibilityElement(children: AccessibilityChildBehavior) -> some View { self }
    public func onAppear(perform: (() -> Void)? = nil) -> some View { self }
    public func onReceive(_ name: Notification.Name, perform: @escaping (Notification) -> Void) -> some View { self }
}
extension Scene {
    public func onChange<V: Equatable>(of value: V, _ action: @escaping (V, V) -> Void) -> some Scene { self }
}
