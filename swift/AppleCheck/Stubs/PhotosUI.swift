// The part of PhotosUI that the demo uses, without behaviour.
import CoreTransferable
import SwiftUI

/// <https://developer.apple.com/documentation/photokit/photospickeritem>
@available(iOS 16.0, macOS 13.0, *)
public struct PhotosPickerItem: Equatable, Hashable, Sendable {
    public func loadTransferable<T: Transferable>(type: T.Type) async throws -> T? { nil }
}
/// <https://developer.apple.com/documentation/photokit/phpickerfilter>
@available(iOS 14.0, macOS 13.0, *)
public struct PHPickerFilter: Equatable, Sendable { public static let images = PHPickerFilter() }
/// <https://developer.apple.com/documentation/photosui/photospicker>
@available(iOS 16.0, macOS 13.0, *)
public struct PhotosPicker<Label: View>: Leaf {
    public init(
        selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter? = nil, @ViewBuilder label: () -> Label
    ) {}
}
