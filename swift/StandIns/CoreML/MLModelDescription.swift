/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmodeldescription>.
public class MLModelDescription: NSObject {
    /// <https://developer.apple.com/documentation/coreml/mlmodeldescription/inputdescriptionsbyname>
    public let inputDescriptionsByName: [String: MLFeatureDescription]
    /// <https://developer.apple.com/documentation/coreml/mlmodeldescription/outputdescriptionsbyname>
    public let outputDescriptionsByName: [String: MLFeatureDescription]
    /// <https://developer.apple.com/documentation/coreml/mlmodeldescription/metadata>
    public let metadata: [MLModelMetadataKey: Any]

    init(
        inputs: [MLFeatureDescription], outputs: [MLFeatureDescription], metadata: [MLModelMetadataKey: Any]
    ) {
        inputDescriptionsByName = Dictionary(inputs.map { ($0.name, $0) }) { first, _ in first }
        outputDescriptionsByName = Dictionary(outputs.map { ($0.name, $0) }) { first, _ in first }
        self.metadata = metadata
    }
}
