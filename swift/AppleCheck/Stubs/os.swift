// The part of os that the package uses, without behaviour.

/// <https://developer.apple.com/documentation/os/os_proc_available_memory()>
@available(iOS 13.0, visionOS 1.0, *)
@available(macOS, unavailable)
public func os_proc_available_memory() -> Int { 0 }
