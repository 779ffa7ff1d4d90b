/// Stand-in for <https://developer.apple.com/documentation/coreml/mlmodelstructure-1sv6x>; types of values and the
/// arguments of operations are left out.
@available(iOS 17.4, macOS 14.4, visionOS 1.1, *)
public enum MLModelStructure: Sendable {
    public struct Program: Sendable {
        public struct NamedValueType: Sendable {
            public let name: String
        }

        public struct Function: Sendable {
            public let inputs: [NamedValueType]
            public let block: Block
        }

        public struct Block: Sendable {
            public let inputs: [NamedValueType]
            public let outputNames: [String]
            public let operations: [Operation]
        }

        public struct Operation: Sendable {
            /// The bare name, as in `conv`; Core ML's may carry the operation set, as in `ios17.conv`.
            public let operatorName: String
            public let outputs: [NamedValueType]
            public let blocks: [Block]
        }

        public let functions: [String: Function]
    }

    public struct NeuralNetwork: Sendable {}

    public struct Pipeline: Sendable {}

    case neuralNetwork(NeuralNetwork)
    case program(Program)
    case pipeline(Pipeline)
    case unsupported
}
