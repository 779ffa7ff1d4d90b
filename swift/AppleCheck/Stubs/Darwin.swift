// The part of Darwin that the package uses, without behaviour.
@_exported import Swift

public typealias dispatch_fd_t = Int32
public typealias dispatch_time_t = UInt64
public typealias mode_t = UInt16
public typealias off_t = Int64
public typealias pid_t = Int32
public typealias natural_t = UInt32
public typealias integer_t = Int32
public typealias mach_msg_type_number_t = UInt32
public typealias mach_port_t = UInt32
public typealias task_flavor_t = UInt32
public typealias kern_return_t = Int32
public struct timespec: Sendable { public var tv_sec = 0, tv_nsec = 0; public init() {}; public init(tv_sec: Int, tv_nsec: Int) {} }
public struct task_vm_info_data_t { public var phys_footprint: UInt64 = 0, ledger_phys_footprint_peak: Int64 = 0; public init() {} }
public var TASK_VM_INFO: Int32 { 22 }
public var KERN_SUCCESS: Int32 { 0 }
// SDKs before iOS 18.4 and macOS 15.4 do not say that it is safe to use from any task.
public var mach_task_self_: mach_port_t = 0
public func task_info(_ t: mach_port_t, _ f: task_flavor_t, _ o: UnsafeMutablePointer<integer_t>!, _ c: UnsafeMutablePointer<mach_msg_type_number_t>!) -> kern_return_t { 0 }
public func sysctlbyname(_ n: UnsafePointer<CChar>!, _ o: UnsafeMutableRawPointer!, _ s: UnsafeMutablePointer<Int>!, _ v: UnsafeMutableRawPointer!, _ l: Int) -> Int32 { 0 }
public func sysctl(_ n: UnsafeMutablePointer<Int32>!, _ l: UInt32, _ o: UnsafeMutableRawPointer!, _ s: UnsafeMutablePointer<Int>!, _ v: UnsafeMutableRawPointer!, _ m: Int) -> Int32 { 0 }
public struct extern_proc { public var p_flag: Int32 = 0; public init() {} }
public struct kinfo_proc { public var kp_proc = extern_proc(); public init() {} }
public var CTL_KERN: Int32 { 1 }
public var KERN_PROC: Int32 { 14 }
public var KERN_PROC_PID: Int32 { 1 }
public var P_TRACED: Int32 { 0x800 }
public func getpid() -> pid_t { 0 }
public var errno: Int32 { get { 0 } set {} }
public func rename(_ a: UnsafePointer<CChar>!, _ b: UnsafePointer<CChar>!) -> Int32 { 0 }
public func exit(_ code: Int32) -> Never { fatalError() }
public var EXIT_SUCCESS: Int32 { 0 }
public var EXIT_FAILURE: Int32 { 1 }
public var SIGINT: Int32 { 2 }
public var SIGTERM: Int32 { 15 }
public var SIG_IGN: (@convention(c) (Int32) -> Void)! { nil }
@discardableResult public func signal(_ s: Int32, _ f: (@convention(c) (Int32) -> Void)!) -> (@convention(c) (Int32) -> Void)! { nil }
