@preconcurrency import CoreML
import EdgeSAMBenchCore
import Foundation

#if canImport(Darwin)
    import Darwin
#endif

/// Describes this program and the machine it runs on.
enum Machine {
    static func app(version: String?) -> AppDescription {
        let facts = Bundle.main.infoDictionary ?? [:]
        let bundled = facts["CFBundleShortVersionString"] as? String
        return AppDescription(
            version: version ?? bundled ?? "0", buildConfiguration: isDebugBuild ? "debug" : "release",
            debuggerAttached: isTraced, swiftVersion: swiftVersion,
            sdk: facts["DTSDKName"] as? String,
            increasedMemory: (facts["EdgeSAMIncreasedMemory"] as? String).map { $0 == "YES" })
    }

    static func device() -> DeviceDescription {
        let process = ProcessInfo.processInfo
        return DeviceDescription(
            productType: productType, marketingName: marketingName, hardwareModel: hardwareModel, osVersion: osVersion,
            osBuild: osBuild, physicalMemory: Int(clamping: process.physicalMemory),
            activeCores: process.activeProcessorCount, computeDevices: computeDevices)
    }

    private static var isDebugBuild: Bool {
        #if DEBUG
            true
        #else
            false
        #endif
    }

    private static var swiftVersion: String {
        #if compiler(>=6.4)
            "6.4 or later"
        #elseif compiler(>=6.3)
            "6.3"
        #elseif compiler(>=6.2)
            "6.2"
        #elseif compiler(>=6.1)
            "6.1"
        #else
            "6.0"
        #endif
    }

    private static var computeDevices: [ComputeDevice] {
        MLModel.availableComputeDevices.map { device in
            switch device {
            case .cpu: ComputeDevice(kind: "cpu")
            case .gpu: ComputeDevice(kind: "gpu")
            case .neuralEngine(let engine): ComputeDevice(kind: "ane", aneCores: engine.totalCoreCount)
            @unknown default: ComputeDevice(kind: "unknown")
            }
        }
    }

    #if canImport(Darwin)
        private static var osVersion: String {
            let version = ProcessInfo.processInfo.operatingSystemVersion
            return "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
        }
        private static var osBuild: String? { systemValue("kern.osversion") }
        #if os(macOS)
            private static var productType: String { systemValue("hw.model") ?? "Mac" }
            private static var marketingName: String { systemValue("machdep.cpu.brand_string") ?? productType }
            private static var hardwareModel: String? { systemValue("hw.machine") }
        #else
            private static var productType: String { systemValue("hw.machine") ?? "iPhone" }
            /// The host knows the name that belongs to the product type.
            private static var marketingName: String { productType }
            private static var hardwareModel: String? { systemValue("hw.model") }
        #endif

        private static func systemValue(_ name: String) -> String? {
            var size = 0
            guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 1 else { return nil }
            var bytes = [UInt8](repeating: 0, count: size)
            guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
            return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }

        private static var isTraced: Bool {
            var info = kinfo_proc()
            var size = MemoryLayout<kinfo_proc>.stride
            var name: [Int32] = [CTL_KERN, KERN_PROC, KERN_PROC_PID, getpid()]
            guard sysctl(&name, UInt32(name.count), &info, &size, nil, 0) == 0 else { return false }
            return info.kp_proc.p_flag & P_TRACED != 0
        }
    #else
        private static let productType = "linux-host"
        private static var marketingName: String {
            let processor = ProcFile.fields("/proc/cpuinfo")
            return processor["model name"] ?? processor["Processor"] ?? "unknown processor"
        }
        private static let hardwareModel: String? = nil
        private static var osVersion: String { ProcessInfo.processInfo.operatingSystemVersionString }
        private static var osBuild: String? {
            FileManager.default.contents(atPath: "/proc/sys/kernel/osrelease").map {
                String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            }
        }
        private static var isTraced: Bool { ProcFile.fields("/proc/self/status")["TracerPid"] ?? "0" != "0" }
    #endif
}
