import Foundation

/// Why bytes are not an array that this reader takes.
public enum NPYError: Error, Equatable, Sendable {
    case magic
    case version(major: Int, minor: Int)
    case truncated(needed: Int, given: Int)
    case header(String)
    case type(String)
    case fortranOrder
    case shape(String)
    case count(needed: Int, given: Int, shape: [Int])
}

extension NPYError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .magic:
            "not a NumPy array file; write it with numpy.save"
        case .version(let major, let minor):
            "array file has format version \(major).\(minor); 1.0 and 2.0 are read, write it with numpy.save"
        case .truncated(let needed, let given):
            "array file ends inside its header, after \(given) of \(needed) bytes; write it again"
        case .header(let why):
            "array file has a damaged header: \(why); write it again with numpy.save"
        case .type(let code):
            "array file has element type '\(code)'; save little-endian f2, f4, f8, i4, i8, or u1, i1, b1"
        case .fortranOrder:
            "array file is in Fortran order; save numpy.ascontiguousarray of it"
        case .shape(let shown):
            "array file has shape \(shown); at most \(NPYHeader.mostDimensions) sizes that can be addressed are read"
        case .count(let needed, let given, let shape):
            "array of shape \(shape) needs \(needed) bytes but has \(given); write it again"
        }
    }
}
