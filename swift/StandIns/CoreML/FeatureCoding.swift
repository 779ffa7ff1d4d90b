// From feature values to the bytes that the Python process reads, and back.

extension MLMultiArrayDataType {
    /// Names of the executor.
    private static let names: [String: MLMultiArrayDataType] = [
        "fp16": .float16, "fp32": .float32, "fp64": .double, "int32": .int32, "int8": .int8,
    ]

    init?(serviceName: String) {
        guard let type = Self.names[serviceName] else { return nil }
        self = type
    }

    var serviceName: String {
        switch self {
        case .double: "fp64"
        case .float32: "fp32"
        case .float16: "fp16"
        case .int32: "int32"
        case .int8: "int8"
        }
    }
}

/// A pixel format that travels.
enum ServicePixels: String {
    case bgra = "BGRA"
    case argb = "ARGB"
    case gray = "L008"
    case grayHalf = "L00h"

    init?(format: OSType) {
        switch format {
        case kCVPixelFormatType_32BGRA: self = .bgra
        case kCVPixelFormatType_32ARGB: self = .argb
        case kCVPixelFormatType_OneComponent8: self = .gray
        case kCVPixelFormatType_OneComponent16Half: self = .grayHalf
        default: return nil
        }
    }

    var format: OSType {
        switch self {
        case .bgra: kCVPixelFormatType_32BGRA
        case .argb: kCVPixelFormatType_32ARGB
        case .gray: kCVPixelFormatType_OneComponent8
        case .grayHalf: kCVPixelFormatType_OneComponent16Half
        }
    }

    var bytesPerPixel: Int {
        switch self {
        case .bgra, .argb: 4
        case .gray: 1
        case .grayHalf: 2
        }
    }
}

/// The features of one request with their bytes.
struct FeatureEncoder {
    private(set) var features: [ServiceFeature] = []
    private(set) var payload = Data()

    mutating func append(_ value: MLFeatureValue, for description: MLFeatureDescription) throws {
        let name = description.name
        guard value.type == description.type else {
            throw MLModelError(
                .featureType, message: "input '\(name)' is a \(value.type) value; expected \(description.type)")
        }
        let offset = payload.count
        if let array = value.multiArrayValue {
            array.layout.forEachRun { start, _, count in
                payload.append(
                    UnsafeRawBufferPointer(
                        start: array.dataPointer + start * array.layout.elementSize,
                        count: count * array.layout.elementSize
                    ).bindMemory(to: UInt8.self))
            }
            features.append(
                ServiceFeature(
                    name: name, kind: "array", dtype: array.dataType.serviceName, shape: array.layout.shape,
                    offset: offset, bytes: payload.count - offset))
        } else if let image = value.imageBufferValue {
            let pixels = try append(image, name: name)
            features.append(
                ServiceFeature(
                    name: name, kind: "image", format: pixels.rawValue, width: CVPixelBufferGetWidth(image),
                    height: CVPixelBufferGetHeight(image), offset: offset, bytes: payload.count - offset))
        }
    }

    private mutating func append(_ image: CVPixelBuffer, name: String) throws -> ServicePixels {
        guard let pixels = ServicePixels(format: CVPixelBufferGetPixelFormatType(image)),
            let address = CVPixelBufferGetBaseAddress(image)
        else { throw MLModelError(.featureType, message: "input '\(name)' has a pixel format that is not known here") }
        let row = CVPixelBufferGetWidth(image) * pixels.bytesPerPixel
        for y in 0..<CVPixelBufferGetHeight(image) {
            let start = address + y * CVPixelBufferGetBytesPerRow(image)
            payload.append(UnsafeRawBufferPointer(start: start, count: row).bindMemory(to: UInt8.self))
        }
        return pixels
    }
}

/// Makes feature values from an answer.
struct FeatureDecoder {
    let payload: Data
    let backings: [String: Any]

    func value(of feature: ServiceFeature) throws -> MLFeatureValue {
        guard feature.offset >= 0, feature.bytes >= 0, feature.offset <= payload.count - feature.bytes else {
            throw malformed(feature)
        }
        return try payload.withUnsafeBytes { whole in
            let bytes = UnsafeRawBufferPointer(rebasing: whole[feature.offset..<feature.offset + feature.bytes])
            return feature.kind == "image" ? try image(feature, bytes) : try array(feature, bytes)
        }
    }

    private func array(_ feature: ServiceFeature, _ bytes: UnsafeRawBufferPointer) throws -> MLFeatureValue {
        guard let shape = feature.shape, let dataType = feature.dtype.flatMap(MLMultiArrayDataType.init(serviceName:))
        else { throw malformed(feature) }
        let layout = try ArrayLayout(padded: shape, dataType: dataType)
        guard layout.count * layout.elementSize == bytes.count else { throw malformed(feature) }
        let array = backing(feature.name, like: layout) ?? MLMultiArray(allocating: layout)
        let size = layout.elementSize
        array.layout.forEachRun { start, index, count in
            (array.dataPointer + start * size).copyMemory(
                from: UnsafeRawBufferPointer(rebasing: bytes[index * size..<(index + count) * size]).baseAddress
                    ?? UnsafeRawPointer(array.dataPointer),
                byteCount: count * size)
        }
        return MLFeatureValue(multiArray: array)
    }

    /// The caller's array, where it has the output's shape and type, and rows of neighbouring elements that do not
    /// overlap.
    private func backing(_ name: String, like layout: ArrayLayout) -> MLMultiArray? {
        guard let array = backings[name] as? MLMultiArray, array.layout.shape == layout.shape,
            array.layout.dataType == layout.dataType, array.layout.isRowMajor
        else { return nil }
        return array
    }

    private func image(_ feature: ServiceFeature, _ bytes: UnsafeRawBufferPointer) throws -> MLFeatureValue {
        guard let pixels = feature.format.flatMap(ServicePixels.init(rawValue:)), let width = feature.width,
            let height = feature.height, (1...(1 << 16)).contains(width), (1...(1 << 16)).contains(height),
            width * height * pixels.bytesPerPixel == bytes.count
        else { throw malformed(feature) }
        var made: CVPixelBuffer?
        if let given = backings[feature.name] as? CVPixelBuffer, CVPixelBufferGetWidth(given) == width,
            CVPixelBufferGetHeight(given) == height, CVPixelBufferGetPixelFormatType(given) == pixels.format
        {
            made = given
        } else {
            CVPixelBufferCreate(kCFAllocatorDefault, width, height, pixels.format, nil, &made)
        }
        guard let buffer = made, let address = CVPixelBufferGetBaseAddress(buffer), let source = bytes.baseAddress
        else { throw malformed(feature) }
        let row = width * pixels.bytesPerPixel
        for y in 0..<height {
            (address + y * CVPixelBufferGetBytesPerRow(buffer)).copyMemory(from: source + y * row, byteCount: row)
        }
        return MLFeatureValue(pixelBuffer: buffer)
    }

    private func malformed(_ feature: ServiceFeature) -> MLModelError {
        MLModelError(.generic, message: "output '\(feature.name)': the Python process sent no such value")
    }
}
