/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmodelconfiguration>.
public class MLModelConfiguration: NSObject, NSCopying {
    /// <https://developer.apple.com/documentation/coreml/mlmodelconfiguration/modeldisplayname>
    public var modelDisplayName: String?
    /// <https://developer.apple.com/documentation/coreml/mlmodelconfiguration/computeunits>
    public var computeUnits = MLComputeUnits.all
    /// <https://developer.apple.com/documentation/coreml/mlmodelconfiguration/functionname>
    @available(iOS 18.0, macOS 15.0, visionOS 2.0, *)
    public var functionName: String?
    /// <https://developer.apple.com/documentation/coreml/mlmodelconfiguration/optimizationhints-71mu7>
    @available(iOS 17.4, macOS 14.4, visionOS 1.1, *)
    public var optimizationHints = MLOptimizationHints()
    /// <https://developer.apple.com/documentation/coreml/mlmodelconfiguration/allowlowprecisionaccumulationongpu>
    public var allowLowPrecisionAccumulationOnGPU = false

    public override init() {}

    public func copy(with zone: NSZone? = nil) -> Any {
        let copy = MLModelConfiguration()
        copy.modelDisplayName = modelDisplayName
        copy.computeUnits = computeUnits
        copy.functionName = functionName
        copy.optimizationHints = optimizationHints
        copy.allowLowPrecisionAccumulationOnGPU = allowLowPrecisionAccumulationOnGPU
        return copy
    }
}
