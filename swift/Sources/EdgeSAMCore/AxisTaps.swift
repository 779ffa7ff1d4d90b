/// Which input positions make each output position along one axis, with half-pixel centres.
struct AxisTaps {
    /// Input positions, `taps` for each output position, clamped to the edges.
    private(set) var index: [Int] = []
    private(set) var weight: [Float] = []

    init(from length: Int, to newLength: Int, kind: RowSampler.Kind) {
        index.reserveCapacity(newLength * kind.taps)
        weight.reserveCapacity(newLength * kind.taps)
        let scale = Float(length) / Float(newLength)
        for position in 0..<newLength {
            let centre = (-0.5 as Float).addingProduct(scale, Float(position) + 0.5)
            switch kind {
            case .bilinear: addLinear(length == newLength ? Float(position) : centre, length)
            case .bicubic: addCubic(length == newLength ? Float(position) : centre, length)
            }
        }
    }

    private mutating func addLinear(_ centre: Float, _ length: Int) {
        let clamped = max(centre, 0)
        let low = min(Int(clamped), length - 1)
        let part = min(max(clamped - Float(low), 0), 1)
        index += [low, min(low + 1, length - 1)]
        weight += [1 - part, part]
    }

    private mutating func addCubic(_ centre: Float, _ length: Int) {
        let floor = centre.rounded(.down)
        let part = min(max(centre - floor, 0), 1)
        index += (-1...2).map { min(max(Int(floor) + $0, 0), length - 1) }
        weight += [Self.outer(part + 1), Self.inner(part), Self.inner(1 - part), Self.outer(1 - part + 1)]
    }

    /// Cubic convolution (Keys 1981) with a = -0.75, distance up to 1.
    private static func inner(_ distance: Float) -> Float {
        (1.25 * distance - 2.25) * distance * distance + 1
    }

    /// Cubic convolution with a = -0.75, distance 1 to 2.
    private static func outer(_ distance: Float) -> Float {
        let linear = -0.75 * distance + 3.75
        return (-6 as Float).addingProduct(linear, distance) * distance + 3
    }
}
