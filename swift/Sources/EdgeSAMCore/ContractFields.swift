/// The JSON of a contract as it is written, before anything is checked.
struct ContractFields: Decodable {
    struct Version: Decodable {
        let schemaVersion: Int
    }

    struct Frame: Decodable {
        let size: Int
        let promptSize: Int
        let mean: [Double]
        let std: [Double]
        let padColour: [Int]
        let fit: String?
        let maskResize: String?
    }

    struct Tensor: Decodable {
        let name: String
        let shape: [Size]
        let dtype: String
        let description: String
    }

    /// A size, or the name of a free dimension.
    enum Size: Decodable {
        case fixed(Int)
        case free(String)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let name = try? container.decode(String.self) {
                self = .free(name)
            } else {
                self = .fixed(try container.decode(Int.self))
            }
        }
    }

    struct Weights: Decodable {
        let source: String
        let sha256: String?
        let licence: String
        let randomSeed: Int?
    }

    let model: String
    let family: String
    let component: String
    let part: [Int]?
    let profile: String
    let frame: Frame
    let paddingPoint: Bool?
    let boxPaddingPoint: Bool?
    let inputs: [Tensor]
    let outputs: [Tensor]
    let slots: Int?
    let queries: Int?
    let maskInput: Bool?
    let objectScore: Bool?
    let candidates: [Int]?
    let score: String?
    let trainedPrompts: [String]?
    let imageDomain: String?
    let imageInput: Bool?
    let weights: Weights
}
