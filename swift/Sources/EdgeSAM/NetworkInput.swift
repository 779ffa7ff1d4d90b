@preconcurrency import CoreML
import EdgeSAMCore

/// What a network is given for one input.
enum NetworkInput: Sendable {
    /// Red, green, blue bytes of a square image.
    case image(rgb: [UInt8], side: Int)
    /// Row-major values, converted to `type`.
    case values([Float], shape: [Int], type: MLMultiArrayDataType)
    /// An array as it is, of the type that the network takes.
    case tensor(SharedTensor)
}

/// A network's inputs as Core ML takes them, in memory from a pool.
struct NetworkInputs {
    private var features: [String: MLFeatureValue] = [:]
    private var arrays: [MLMultiArray] = []
    private var images: [CVPixelBuffer] = []
    private let pool: MemoryPool

    init(_ inputs: [String: NetworkInput], pool: MemoryPool) throws {
        self.pool = pool
        for (name, input) in inputs { features[name] = try feature(input) }
    }

    func provider() throws -> MLDictionaryFeatureProvider { try MLDictionaryFeatureProvider(dictionary: features) }

    /// Only after a prediction that succeeded.
    func giveBack() {
        arrays.forEach(pool.giveBack)
        images.forEach(pool.giveBack)
    }

    private mutating func feature(_ input: NetworkInput) throws -> MLFeatureValue {
        switch input {
        case .image(let rgb, let side):
            let image = try pool.image(PixelSize(width: side, height: side))
            try PixelBuffers.write(rgb: rgb, to: image)
            images.append(image)
            return MLFeatureValue(pixelBuffer: image)
        case .values(let values, let shape, let type):
            let array = try pool.array(shape: shape, type: type)
            try array.store(values)
            arrays.append(array)
            return MLFeatureValue(multiArray: array)
        case .tensor(let tensor): return MLFeatureValue(multiArray: tensor.array)
        }
    }
}
