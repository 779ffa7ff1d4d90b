// The part of SwiftUI that only the demo uses, which is an app for iOS.
import CoreTransferable
import UIKit

/// <https://developer.apple.com/documentation/swiftui/toolbaritemgroup>
@available(iOS 14.0, *)
public struct ToolbarItemGroup<Content: View>: Leaf {
    public init(@ViewBuilder content: () -> Content) {}
}
/// <https://developer.apple.com/documentation/swiftui/sharepreview>
@available(iOS 16.0, *)
public struct SharePreview { public init(_ title: String) {} }
/// <https://developer.apple.com/documentation/swiftui/sharelink>
@available(iOS 16.0, *)
public struct ShareLink<Item: Transferable, Label: View>: Leaf {
    public init(item: Item, preview: SharePreview, @ViewBuilder label: () -> Label) {}
}
extension View {
    /// <https://developer.apple.com/documentation/swiftui/view/toolbar(content:)-5w0tj>
    @available(iOS 14.0, *)
    public func toolbar<Content: View>(@ViewBuilder content: () -> Content) -> some View { self }
    /// <https://developer.apple.com/documentation/swiftui/view/fullscreencover(ispresented:ondismiss:content:)>
    @available(iOS 14.0, *)
    public func fullScreenCover<Content: View>(
        isPresented: Binding<Bool>, onDismiss: (() -> Void)? = nil, @ViewBuilder content: @escaping () -> Content
    ) -> some View { self }
}
/// <https://developer.apple.com/documentation/swiftui/uiviewcontrollerrepresentable>
@MainActor @preconcurrency public protocol UIViewControllerRepresentable: View where Body == Never {
    associatedtype UIViewControllerType: UIViewController
    associatedtype Coordinator = Void
    func makeUIViewController(context: Context) -> UIViewControllerType
    func updateUIViewController(_ uiViewController: UIViewControllerType, context: Context)
    func makeCoordinator() -> Coordinator
    typealias Context = UIViewControllerRepresentableContext<Self>
}
extension UIViewControllerRepresentable { public var body: Never { fatalError() } }
@MainActor public struct UIViewControllerRepresentableContext<Representable: UIViewControllerRepresentable> {
    public var coordinator: Representable.Coordinator { fatalError() }
}
