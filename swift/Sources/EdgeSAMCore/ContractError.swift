import Foundation

/// Why metadata is not a contract that this code can keep.
public enum ContractError: Error, Equatable, Sendable {
    case notAContract(String)
    case schemaVersion(Int)
    case missing(String)
    case invalid(field: String, value: String, allowed: String)
}

extension ContractError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .notAContract(let why):
            "metadata '\(Contract.metadataKey)' is not a contract of edgesam-export: \(why); export the model again"
        case .schemaVersion(let version):
            "contract has version \(version) but this code reads \(Contract.schemaVersion); export the model again"
                + " or update the package EdgeSAM"
        case .missing(let field):
            "contract has no field '\(field)'; export the model again"
        case .invalid(let field, let value, let allowed):
            "contract field '\(field)' is \(value); it must be \(allowed). Export the model again"
        }
    }
}
