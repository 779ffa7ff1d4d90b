/// Stand-in for <https://developer.apple.com/documentation/coreml/mlpredictionoptions>.
public class MLPredictionOptions: NSObject {
    /// Arrays that Core ML may write outputs to, by output name.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlpredictionoptions/outputbackings>
    public var outputBackings: [String: Any] = [:]

    public override init() {}
}
