/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmultiarrayconstraint>.
public class MLMultiArrayConstraint: NSObject {
    /// The default shape when the input is flexible.
    ///
    /// <https://developer.apple.com/documentation/coreml/mlmultiarrayconstraint/shape>
    public let shape: [NSNumber]
    /// <https://developer.apple.com/documentation/coreml/mlmultiarrayconstraint/datatype>
    public let dataType: MLMultiArrayDataType

    init(shape: [Int], dataType: MLMultiArrayDataType) {
        self.shape = shape.map { NSNumber(value: $0) }
        self.dataType = dataType
    }
}
