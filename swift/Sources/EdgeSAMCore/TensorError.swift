import Foundation

/// Why bytes cannot be read or written as the tensor they are said to be.
public enum TensorError: Error, Equatable, Sendable {
    case rank(shape: [Int], strides: [Int])
    case negative(shape: [Int], strides: [Int])
    case tooLarge(shape: [Int])
    case outOfBounds(shape: [Int], strides: [Int], needed: Int, given: Int)
    case index([Int], shape: [Int])
    case count(needed: Int, given: Int, shape: [Int])
}

extension TensorError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .rank(let shape, let strides):
            return "tensor of shape \(shape) has strides \(strides); give one stride for each dimension"
        case .negative(let shape, let strides):
            return "tensor has shape \(shape) and strides \(strides); neither may be negative"
        case .tooLarge(let shape):
            return "tensor of shape \(shape) has more elements than can be addressed; check its shape"
        case .outOfBounds(let shape, let strides, let needed, let given):
            return "tensor of shape \(shape), strides \(strides) needs \(needed) bytes but has \(given);"
                + " check shape, strides and element type"
        case .index(let index, let shape):
            return "index \(index) is outside the tensor of shape \(shape)"
        case .count(let needed, let given, let shape):
            return "\(given) values for a tensor of shape \(shape), which has \(needed);"
                + " give one value for each element"
        }
    }
}
