/// Stand-in for <https://developer.apple.com/documentation/coreml/mlcomputedevice>.
@available(iOS 17.0, macOS 14.0, visionOS 1.0, *)
public enum MLComputeDevice: Hashable, Sendable {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)

    /// <https://developer.apple.com/documentation/coreml/mlcomputedevice/allcomputedevices>
    public static var allComputeDevices: [MLComputeDevice] { [.cpu(MLCPUComputeDevice())] }
}

/// Stand-in for <https://developer.apple.com/documentation/coreml/mlcpucomputedevice>.
public final class MLCPUComputeDevice: NSObject, Sendable {
    override init() {}
}

/// Stand-in for <https://developer.apple.com/documentation/coreml/mlgpucomputedevice>.
public final class MLGPUComputeDevice: NSObject, Sendable {
    override init() {}
}

/// Stand-in for <https://developer.apple.com/documentation/coreml/mlneuralenginecomputedevice>.
public final class MLNeuralEngineComputeDevice: NSObject, Sendable {
    /// <https://developer.apple.com/documentation/coreml/mlneuralenginecomputedevice/totalcorecount>
    public let totalCoreCount: Int

    init(totalCoreCount: Int) {
        self.totalCoreCount = totalCoreCount
    }
}
