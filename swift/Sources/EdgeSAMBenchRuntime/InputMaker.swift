@preconcurrency import CoreML
import CoreVideo
import EdgeSAMBenchCore
import EdgeSAMCore
import Foundation

/// Makes a model's inputs from its own description.
struct InputMaker {
    /// Largest NPY file that is read, bytes.
    static let fileLimit = 1 << 30

    let inputs: [String: MLFeatureDescription]
    /// Prompt slots that the model always has; nil where the number of points is free.
    let slots: Int?
    let memory: InputMemory

    /// Inputs for timing: prompts for `nPoints` points, everything else from `feed` or random.
    func timing(nPoints: Int, feed: [String: URL]) throws -> MLDictionaryFeatureProvider {
        try provider { name, description in
            switch name {
            case "point_coords": try points(description, nPoints: nPoints)
            case "point_labels": try labels(description, nPoints: nPoints)
            case "mask_input", "has_mask_input":
                try tensor(description, shape(description)) { [_](repeating: 0, count: $0) }
            default:
                if let file = feed[name] {
                    try value(description, from: file)
                } else {
                    try random(description)
                }
            }
        }
    }

    /// Inputs whose values all come from files.
    func exact(feed: [String: URL]) throws -> MLDictionaryFeatureProvider {
        try provider { name, description in
            guard let file = feed[name] else {
                throw failure("no_input", "the feed has no file for input '\(name)'; it has \(feed.keys.sorted())")
            }
            return try value(description, from: file)
        }
    }

    private func provider(
        _ make: (String, MLFeatureDescription) throws -> MLFeatureValue
    ) throws -> MLDictionaryFeatureProvider {
        var values: [String: MLFeatureValue] = [:]
        for (name, description) in inputs { values[name] = try make(name, description) }
        return try MLDictionaryFeatureProvider(dictionary: values)
    }

    // MARK: Random values

    private func random(_ description: MLFeatureDescription) throws -> MLFeatureValue {
        var random = RandomValues(name: description.name)
        if let image = description.imageConstraint {
            let rgb = random.bytes(image.pixelsHigh * image.pixelsWide * 3)
            return try imageValue(image, rgb: rgb)
        }
        return try tensor(description, shape(description)) { random.floats($0) }
    }

    /// A grid of points well inside the frame; empty slots hold zeros.
    private func points(_ description: MLFeatureDescription, nPoints: Int) throws -> MLFeatureValue {
        try tensor(description, try promptShape(description, nPoints: nPoints)) { count in
            (0..<count).map { $0 / 2 < nPoints ? Float(128 + ($0 * 97) % 768) : 0 }
        }
    }

    /// Foreground points, SAM's padding point where there is room, then empty slots.
    private func labels(_ description: MLFeatureDescription, nPoints: Int) throws -> MLFeatureValue {
        try tensor(description, try promptShape(description, nPoints: nPoints)) { count in
            (0..<count).map { $0 < nPoints ? 1 : $0 == nPoints ? -1 : -2 }
        }
    }

    private func promptShape(_ description: MLFeatureDescription, nPoints: Int) throws -> [Int] {
        var shape = shape(description)
        guard shape.count >= 2 else { throw failure("input_shape", "'\(description.name)' has shape \(shape)") }
        if let slots, nPoints > slots {
            throw failure("too_many_points", "\(nPoints) points do not fit the model's \(slots) slots")
        }
        shape[1] = slots ?? nPoints
        return shape
    }

    // MARK: Files

    private func value(_ description: MLFeatureDescription, from file: URL) throws -> MLFeatureValue {
        guard file.pathExtension == "npy" else {
            throw failure("input_format", "'\(file.lastPathComponent)': only .npy is read here")
        }
        let array = try NPYArray(file: try DiskFileStore().read(file, limit: Self.fileLimit))
        guard let image = description.imageConstraint else {
            let isFree = slots == nil && ["point_coords", "point_labels"].contains(description.name)
            let given = isFree ? array.shape : shape(description)
            guard array.shape == given else {
                throw failure(
                    "input_shape",
                    "'\(file.lastPathComponent)' has shape \(array.shape), input '\(description.name)' \(given)")
            }
            return try tensor(description, array.shape) { _ in array.floats() }
        }
        guard array.type == .uint8, array.shape == [image.pixelsHigh, image.pixelsWide, 3] else {
            throw failure(
                "input_shape",
                "'\(file.lastPathComponent)' is \(array.type.rawValue) \(array.shape), image '\(description.name)' "
                    + "takes uint8 [\(image.pixelsHigh), \(image.pixelsWide), 3], red green blue")
        }
        return try imageValue(image, rgb: array.bytes)
    }

    // MARK: Memory

    private func shape(_ description: MLFeatureDescription) -> [Int] {
        description.multiArrayConstraint?.shape.map(\.intValue) ?? []
    }

    private func tensor(
        _ description: MLFeatureDescription, _ shape: [Int], _ values: (Int) -> [Float]
    ) throws -> MLFeatureValue {
        guard let constraint = description.multiArrayConstraint, !shape.isEmpty else {
            throw failure("input_type", "input '\(description.name)' is neither an image nor a tensor with a shape")
        }
        let array = try TensorMemory.make(shape: shape, type: constraint.dataType, memory: memory)
        try array.store(values(shape.reduce(1, *)))
        return MLFeatureValue(multiArray: array)
    }

    private func imageValue(_ image: MLImageConstraint, rgb: [UInt8]) throws -> MLFeatureValue {
        let isGray = image.pixelFormatType == kCVPixelFormatType_OneComponent8
        let buffer = try TensorMemory.pixelBuffer(
            width: image.pixelsWide, height: image.pixelsHigh,
            format: isGray ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA)
        try TensorMemory.write(buffer) { row, target in
            let line = row * image.pixelsWide * 3
            for column in 0..<image.pixelsWide {
                let source = line + 3 * column
                if isGray {
                    target[column] = rgb[source + 1]
                } else {
                    target[4 * column] = rgb[source + 2]
                    target[4 * column + 1] = rgb[source + 1]
                    target[4 * column + 2] = rgb[source]
                    target[4 * column + 3] = 255
                }
            }
        }
        return MLFeatureValue(pixelBuffer: buffer)
    }

    private func failure(_ code: String, _ message: String) -> BenchFailure {
        BenchFailure(stage: "inputs", code: code, message: message)
    }
}
