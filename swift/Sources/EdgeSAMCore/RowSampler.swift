/// Interpolates one row of a map at a time, keeping only the rows that the next one may need again.
struct RowSampler: ~Copyable {
    enum Kind {
        case bilinear
        case bicubic

        var taps: Int { self == .bilinear ? 2 : 4 }
    }

    private let horizontal: AxisTaps
    private let vertical: AxisTaps
    private let taps: Int
    private let columns: Int
    /// `taps` input rows at output width, then the output row.
    private let rows: UnsafeMutablePointer<Float>
    /// Which input row each of `rows` holds.
    private var held: [Int]

    /// `columns` is how many columns of an output row are wanted, from the left.
    init(from size: PixelSize, to newSize: PixelSize, columns: Int, kind: Kind) {
        horizontal = AxisTaps(from: size.width, to: newSize.width, kind: kind)
        vertical = AxisTaps(from: size.height, to: newSize.height, kind: kind)
        taps = kind.taps
        self.columns = columns
        rows = .allocate(capacity: columns * (kind.taps + 1))
        rows.initialize(repeating: 0, count: columns * (kind.taps + 1))
        held = [Int](repeating: -1, count: kind.taps)
    }

    deinit { rows.deallocate() }

    /// One output row, valid until the next call; `input` gives a row of the map, valid until its next call.
    mutating func row(_ y: Int, _ input: (Int) -> UnsafePointer<Float>) -> UnsafePointer<Float> {
        // Neighbouring rows differ by one, so that row modulo `taps` keeps the rows of one output apart.
        for tap in 0..<taps {
            let needed = vertical.index[y * taps + tap]
            let slot = needed % taps
            if held[slot] != needed {
                stretch(input(needed), into: rows + slot * columns)
                held[slot] = needed
            }
        }
        let target = rows + taps * columns
        for tap in 0..<taps where tap != 1 {
            let row = UnsafePointer(rows + vertical.index[y * taps + tap] % taps * columns)
            let weight = vertical.weight[y * taps + tap]
            if tap == 0 {
                let second = UnsafePointer(rows + vertical.index[y * taps + 1] % taps * columns)
                Self.blend(row, weight, second, vertical.weight[y * taps + 1], into: target, count: columns)
            } else {
                Self.add(row, weight, into: target, count: columns)
            }
        }
        return UnsafePointer(target)
    }

    private func stretch(_ row: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>) {
        horizontal.index.withUnsafeBufferPointer { index in
            horizontal.weight.withUnsafeBufferPointer { weight in
                if taps == 2 {
                    for x in 0..<columns {
                        let second = row[index[2 * x + 1]] * weight[2 * x + 1]
                        target[x] = second.addingProduct(row[index[2 * x]], weight[2 * x])
                    }
                } else {
                    for x in 0..<columns {
                        var sum = row[index[4 * x + 1]] * weight[4 * x + 1]
                        for tap in [0, 2, 3] { sum = sum.addingProduct(row[index[4 * x + tap]], weight[4 * x + tap]) }
                        target[x] = sum
                    }
                }
            }
        }
    }

    /// The second product is rounded, the first one fused: the order PyTorch's compiler chose.
    private static func blend(
        _ first: UnsafePointer<Float>, _ firstWeight: Float, _ second: UnsafePointer<Float>, _ secondWeight: Float,
        into target: UnsafeMutablePointer<Float>, count: Int
    ) {
        for x in 0..<count { target[x] = (second[x] * secondWeight).addingProduct(first[x], firstWeight) }
    }

    private static func add(
        _ row: UnsafePointer<Float>, _ weight: Float, into target: UnsafeMutablePointer<Float>, count: Int
    ) {
        for x in 0..<count { target[x] = target[x].addingProduct(row[x], weight) }
    }
}
