/// Reproducible values: SplitMix64 (Steele, Lea, Flood 2014), seeded by a name.
struct RandomValues: RandomNumberGenerator {
    private var state: UInt64

    init(name: String) {
        // FNV-1a, so that two inputs of one model do not hold the same values.
        state = name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// Uniform within -1 to 1, steps of 2^-11 so that half precision holds them exactly.
    mutating func floats(_ count: Int) -> [Float] {
        var values = [Float](repeating: 0, count: count)
        var index = 0
        while index < count {
            var bits = next()
            for _ in 0..<min(4, count - index) {
                values[index] = Float(Int(bits & 0xFFF) - 2048) / 2048
                bits >>= 16
                index += 1
            }
        }
        return values
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        var values = [UInt8](repeating: 0, count: count)
        var index = 0
        while index < count {
            var bits = next()
            for _ in 0..<min(8, count - index) {
                values[index] = UInt8(truncatingIfNeeded: bits)
                bits >>= 8
                index += 1
            }
        }
        return values
    }
}
