import Foundation

/// A NumPy array file in memory: C order, little-endian, format versions 1.0 and 2.0.
///
/// Source: `numpy.lib.format`, "NPY format".
public struct NPYArray: Sendable, Hashable {
    public let shape: [Int]
    public let type: ElementType
    /// Little-endian elements, row-major.
    public let bytes: [UInt8]

    /// - Throws: `NPYError` when the bytes do not fill the shape.
    public init(shape: [Int], type: ElementType, bytes: [UInt8]) throws(NPYError) {
        let needed = try Self.byteCount(shape, type)
        guard bytes.count == needed else { throw .count(needed: needed, given: bytes.count, shape: shape) }
        self.shape = shape
        self.type = type
        self.bytes = bytes
    }

    /// A float32 array.
    public init(shape: [Int], floats: [Float]) throws(NPYError) {
        try self.init(
            shape: shape, type: .float32,
            bytes: floats.map(\.bitPattern.littleEndian).withUnsafeBytes { Array($0) })
    }

    /// Read the bytes of a `.npy` file; nothing may follow the array.
    public init(file data: Data) throws(NPYError) {
        let (header, start) = try Self.split([UInt8](data.prefix(12 + NPYHeader.mostBytes)))
        let fields = try NPYHeader(text: header)
        let needed = try Self.byteCount(fields.shape, fields.type)
        let given = data.count - start
        guard given == needed else { throw .count(needed: needed, given: given, shape: fields.shape) }
        shape = fields.shape
        type = fields.type
        bytes = [UInt8](data.dropFirst(start))
    }

    /// Bytes of the `.npy` file; version 2.0 only where the header is too long for 1.0.
    public func file() -> Data {
        let text = NPYHeader(shape: shape, type: type).text
        // Array data starts at a multiple of 64 bytes; the header ends with a line feed.
        let short = 10 + text.utf8.count + 1 <= 65_536
        let prefix = short ? 10 : 12
        let padding = (64 - (prefix + text.utf8.count + 1) % 64) % 64
        let length = text.utf8.count + padding + 1
        var file = Data(Self.magic + [short ? 1 : 2, 0])
        for byte in 0..<(short ? 2 : 4) { file.append(UInt8(truncatingIfNeeded: length >> (8 * byte))) }
        file.append(contentsOf: text.utf8)
        file.append(contentsOf: [UInt8](repeating: UInt8(ascii: " "), count: padding) + [UInt8(ascii: "\n")])
        file.append(contentsOf: bytes)
        return file
    }

    /// The elements as float32, row-major.
    public func floats() -> [Float] {
        let count = bytes.count / type.byteCount
        return [Float](unsafeUninitializedCapacity: count) { target, initialized in
            bytes.withUnsafeBytes { source in
                if let from = source.baseAddress, let to = target.baseAddress {
                    TensorElements.read(from, step: 1, type: type, into: to, count: count)
                }
            }
            initialized = count
        }
    }

    private static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)

    /// Header text and where the array starts.
    private static func split(_ bytes: [UInt8]) throws(NPYError) -> (header: String, start: Int) {
        guard bytes.starts(with: magic) else { throw .magic }
        guard bytes.count >= 8 else { throw .truncated(needed: 8, given: bytes.count) }
        let (major, minor) = (Int(bytes[6]), Int(bytes[7]))
        guard (1...2).contains(major), minor == 0 else { throw .version(major: major, minor: minor) }
        let prefix = major == 1 ? 10 : 12
        guard bytes.count >= prefix else { throw .truncated(needed: prefix, given: bytes.count) }
        let length = bytes[8..<prefix].reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= NPYHeader.mostBytes else { throw .header("it is \(length) bytes long") }
        guard bytes.count >= prefix + length else { throw .truncated(needed: prefix + length, given: bytes.count) }
        guard let text = String(bytes: bytes[prefix..<prefix + length], encoding: .utf8) else {
            throw .header("it is not text")
        }
        return (text, prefix + length)
    }

    private static func byteCount(_ shape: [Int], _ type: ElementType) throws(NPYError) -> Int {
        guard shape.count <= NPYHeader.mostDimensions, shape.allSatisfy({ $0 >= 0 }) else {
            throw .shape("\(shape)")
        }
        var bytes = type.byteCount
        // Zeros last, so that a product too large to be addressed is refused whatever the order.
        for size in shape.sorted(by: >) {
            let (product, overflow) = bytes.multipliedReportingOverflow(by: size)
            if overflow { throw .shape("\(shape)") }
            bytes = product
        }
        return bytes
    }
}
