import Foundation

extension Contract {
    /// Largest JSON text that is read; real ones have a few KiB.
    static let mostBytes = 1 << 20

    static func decode<Fields: Decodable>(_ type: Fields.Type, from data: Data) throws(ContractError) -> Fields {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return try decoder.decode(type, from: data)
        } catch let error as DecodingError {
            throw ContractError(error)
        } catch {
            throw .notAContract("it cannot be read as JSON")
        }
    }

    static func within(_ value: Int, _ range: ClosedRange<Int>, field: String) throws(ContractError) -> Int {
        guard range.contains(value) else {
            throw .invalid(field: field, value: "\(value)", allowed: "\(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    static func choice<Choice: RawRepresentable & CaseIterable>(
        _ value: String, field: String
    ) throws(ContractError) -> Choice where Choice.RawValue == String {
        guard let choice = Choice(rawValue: value) else {
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw .invalid(field: field, value: "'\(value.prefix(40))'", allowed: "one of: \(known)")
        }
        return choice
    }

    static func tensors(_ fields: [ContractFields.Tensor], field: String) throws(ContractError) -> [Tensor] {
        guard !fields.isEmpty else { throw .invalid(field: field, value: "empty", allowed: "a list of tensors") }
        guard Set(fields.map(\.name)).count == fields.count else {
            throw .invalid(field: field, value: "a list with a name twice", allowed: "a list of different tensors")
        }
        var tensors: [Tensor] = []
        for tensor in fields {
            var shape: [Dimension] = []
            for size in tensor.shape {
                switch size {
                case .free(let name): shape.append(.free(name))
                case .fixed(let size):
                    shape.append(.fixed(try within(size, 1...(1 << 24), field: "\(field).\(tensor.name).shape")))
                }
            }
            tensors.append(
                Tensor(name: tensor.name, shape: shape, dtype: tensor.dtype, description: tensor.description))
        }
        return tensors
    }

    static func checked(candidates: [Int], _ component: Component) throws(ContractError) -> [Int] {
        let allowed = "a list of different mask tokens, at least one"
        guard Set(candidates).count == candidates.count, candidates.allSatisfy({ $0 >= 0 }),
            component != .decoder || !candidates.isEmpty
        else { throw .invalid(field: "candidates", value: "\(candidates)", allowed: allowed) }
        return candidates
    }

    static func checked(part numbers: [Int]) throws(ContractError) -> Part {
        guard numbers.count == 2, 1...4096 ~= numbers[1], 1...numbers[1] ~= numbers[0] else {
            let shown = "\(numbers.prefix(4))"
            throw .invalid(field: "part", value: shown, allowed: "a part's number and how many there are")
        }
        return Part(number: numbers[0], of: numbers[1])
    }
}

extension ContractError {
    /// What the JSON decoder found, with the field's path as it is written.
    init(_ error: DecodingError) {
        func path(_ keys: [any CodingKey]) -> String {
            let words = keys.map { key in key.intValue.map(String.init) ?? Self.snakeCase(key.stringValue) }
            return words.isEmpty ? "contract" : words.joined(separator: ".")
        }
        switch error {
        case .keyNotFound(let key, let context):
            self = .missing(path(context.codingPath + [key]))
        case .typeMismatch(let type, let context):
            if context.codingPath.isEmpty {
                self = .notAContract("it is not a JSON object")
            } else {
                self = .invalid(field: path(context.codingPath), value: "of another type", allowed: Self.name(of: type))
            }
        case .valueNotFound(let type, let context):
            self = .invalid(field: path(context.codingPath), value: "null", allowed: Self.name(of: type))
        case .dataCorrupted(let context) where !context.codingPath.isEmpty:
            self = .invalid(field: path(context.codingPath), value: "out of range", allowed: "a number that fits")
        default:
            self = .notAContract("it is not JSON")
        }
    }

    private static func name(of type: Any.Type) -> String {
        switch type {
        case is Int.Type: "an integer"
        case is Double.Type: "a number"
        case is Bool.Type: "true or false"
        case is String.Type: "a text"
        default: "an object or a list"
        }
    }

    private static func snakeCase(_ name: String) -> String {
        name.reduce(into: "") { $0 += $1.isUppercase ? "_" + $1.lowercased() : String($1) }
    }
}

extension ImageFrame {
    init(_ fields: ContractFields.Frame, paddingPoint: Bool, boxPaddingPoint: Bool) throws(ContractError) {
        func three(_ values: [Double], field: String, above lowest: Double) throws(ContractError) -> [Double] {
            guard values.count == 3, values.allSatisfy({ $0.isFinite && $0 > lowest }) else {
                let allowed = lowest == 0 ? "three numbers above 0" : "three numbers"
                throw .invalid(field: field, value: "\(values)", allowed: allowed)
            }
            return values
        }
        let colour = fields.padColour.compactMap { UInt8(exactly: $0) }
        guard colour.count == 3, fields.padColour.count == 3 else {
            let allowed = "three numbers of 0 to 255"
            throw .invalid(field: "frame.pad_colour", value: "\(fields.padColour)", allowed: allowed)
        }
        // Longest sides above this would not fit a phone's memory anyway.
        let sides = 16...8192
        self.init(
            size: try Contract.within(fields.size, sides, field: "frame.size"),
            promptSize: try Contract.within(fields.promptSize, sides, field: "frame.prompt_size"),
            mean: try three(fields.mean, field: "frame.mean", above: -.infinity),
            std: try three(fields.std, field: "frame.std", above: 0),
            padColour: colour,
            fit: try fields.fit.map { name throws(ContractError) in
                try Contract.choice(name, field: "frame.fit")
            } ?? .longestSide,
            maskResize: try fields.maskResize.map { name throws(ContractError) in
                try Contract.choice(name, field: "frame.mask_resize")
            } ?? .bilinear,
            paddingPoint: paddingPoint, boxPaddingPoint: boxPaddingPoint)
    }
}
