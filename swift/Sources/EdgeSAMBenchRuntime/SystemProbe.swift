import EdgeSAMBenchCore
import Foundation

#if canImport(Darwin)
    // `mach_task_self_` is a global variable without annotation in the SDKs of Xcode 16.0 to 16.2.
    @preconcurrency import Darwin
#endif
#if os(iOS)
    import UIKit
    import os
#endif

/// Reads the state of this process and machine.
public struct SystemProbe: EnvironmentProbe {
    #if os(iOS)
        private let screen = ScreenAndBattery()
    #endif

    public init() {}

    public func read() -> EnvironmentReading {
        var reading = EnvironmentReading()
        #if canImport(Darwin)
            switch ProcessInfo.processInfo.thermalState {
            case .nominal: reading.thermal = .nominal
            case .fair: reading.thermal = .fair
            case .serious: reading.thermal = .serious
            case .critical: reading.thermal = .critical
            @unknown default: reading.thermal = nil
            }
            reading.lowPower = ProcessInfo.processInfo.isLowPowerModeEnabled
            (reading.footprint, reading.footprintHighWater) = Self.taskMemory()
        #else
            let status = ProcFile.fields("/proc/self/status")
            reading.footprint = status["VmRSS"].flatMap(ProcFile.bytes)
            reading.footprintHighWater = status["VmHWM"].flatMap(ProcFile.bytes)
            reading.available = ProcFile.fields("/proc/meminfo")["MemAvailable"].flatMap(ProcFile.bytes)
        #endif
        #if os(iOS)
            reading.available = Int(os_proc_available_memory())
            screen.fill(&reading)
        #endif
        return reading
    }

    #if canImport(Darwin)
        /// The figure that memory limits are about, and its highest value.
        private static func taskMemory() -> (now: Int?, highest: Int?) {
            var info = task_vm_info_data_t()
            var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
            let code = withUnsafeMutablePointer(to: &info) { pointer in
                pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                    task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
                }
            }
            guard code == KERN_SUCCESS else { return (nil, nil) }
            return (Int(info.phys_footprint), Int(info.ledger_phys_footprint_peak))
        }
    #endif
}

#if os(iOS)
    /// The latest values of objects that only the main thread may ask.
    private final class ScreenAndBattery: @unchecked Sendable {  // `latest` is only used under `lock`
        private let lock = NSLock()
        private var latest = EnvironmentReading()

        /// Fills in what is known, and has it renewed for the next time.
        func fill(_ reading: inout EnvironmentReading) {
            let known = lock.withLock { latest }
            reading.batteryLevel = known.batteryLevel
            reading.batteryState = known.batteryState
            reading.brightness = known.brightness
            Task { @MainActor in
                let (device, brightness) = (UIDevice.current, UIScreen.main.brightness)
                let states = ["unknown", "unplugged", "charging", "full"]
                let state = device.batteryState.rawValue
                let level = device.batteryLevel
                self.lock.withLock {
                    self.latest.batteryLevel = level < 0 ? nil : Double(level)
                    self.latest.batteryState = states.indices.contains(state) ? states[state] : nil
                    self.latest.brightness = Double(brightness)
                }
            }
        }
    }
#endif
