/// The description in front of an array: a Python dict literal with exactly the keys descr, fortran_order and shape.
struct NPYHeader {
    /// Bounds of what is read; NumPy's own headers of plain arrays stay below 1 KiB.
    static let mostBytes = 65_536
    static let mostDimensions = 32

    let shape: [Int]
    let type: ElementType

    init(shape: [Int], type: ElementType) {
        self.shape = shape
        self.type = type
    }

    /// Type codes; single bytes have no byte order.
    private static let codes: [(String, ElementType)] = [
        ("<f2", .float16), ("<f4", .float32), ("<f8", .float64), ("<i4", .int32), ("<i8", .int64), ("|u1", .uint8),
        ("|i1", .int8), ("|b1", .bool),
    ]

    /// The literal, without padding.
    var text: String {
        let code = Self.codes.first { $0.1 == type }?.0 ?? ""
        let sizes = shape.count == 1 ? "(\(shape[0]),)" : "(" + shape.map(String.init).joined(separator: ", ") + ")"
        return "{'descr': '\(code)', 'fortran_order': False, 'shape': \(sizes), }"
    }

    init(text: String) throws(NPYError) {
        var parser = NPYLiteralParser(text)
        var (code, order, sizes): (String?, Bool?, [Int]?) = (nil, nil, nil)
        try parser.expect("{")
        while !parser.skip("}") {
            let key = try parser.string()
            try parser.expect(":")
            switch key {
            case "descr" where code == nil: code = try parser.string()
            case "fortran_order" where order == nil: order = try parser.boolean()
            case "shape" where sizes == nil: sizes = try parser.tuple(atMost: Self.mostDimensions)
            default: throw .header("key '\(key)' is unknown or there twice")
            }
            if !parser.skip(",") {
                try parser.expect("}")
                break
            }
        }
        try parser.expectEnd()
        guard let code, let order, let sizes else { throw .header("descr, fortran_order or shape is missing") }
        guard let type = Self.codes.first(where: { $0.0 == code })?.1 else { throw .type(code) }
        if order { throw .fortranOrder }
        self.init(shape: sizes, type: type)
    }
}
