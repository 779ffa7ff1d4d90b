/// Type of a tensor's elements.
public enum ElementType: String, Sendable, Hashable, CaseIterable {
    case float16
    case float32
    case float64
    case int32
    case int64
    case uint8
    case int8
    case bool

    /// Bytes of one element.
    public var byteCount: Int {
        switch self {
        case .uint8, .int8, .bool: 1
        case .float16: 2
        case .float32, .int32: 4
        case .float64, .int64: 8
        }
    }
}
