/// IEEE 754 half precision as raw bits; `Float16` does not exist on Intel Macs.
public enum HalfBits {
    /// The number that `bits` stands for; exact.
    @inlinable
    public static func float(_ bits: UInt16) -> Float {
        let sign = UInt32(bits & 0x8000) << 16
        let magnitude = UInt32(bits & 0x7FFF)
        if magnitude >= 0x7C00 {  // infinity or NaN, payload kept
            return Float(bitPattern: sign | 0x7F80_0000 | (magnitude & 0x3FF) << 13)
        }
        // As float bits this is the number times 2^-112; the product is exact, also for subnormal halves.
        let value = Float(bitPattern: magnitude << 13) * 0x1p112
        return Float(bitPattern: value.bitPattern | sign)
    }

    /// Bits of the half nearest to `value`, ties to even; too large becomes infinity, NaN stays NaN.
    @inlinable
    public static func bits(_ value: Float) -> UInt16 {
        let pattern = value.bitPattern
        let sign = UInt16(truncatingIfNeeded: pattern >> 16) & 0x8000
        let magnitude = pattern & 0x7FFF_FFFF
        if magnitude > 0x7F80_0000 { return sign | 0x7E00 | UInt16(truncatingIfNeeded: magnitude >> 13) & 0x3FF }
        if magnitude >= 0x477F_F000 { return sign | 0x7C00 }  // 65520 and above round to infinity
        if magnitude < 0x3880_0000 {  // below 2^-14: subnormal
            // Adding 0.5 makes the float's last place 2^-24, a subnormal half's; the addition rounds to even.
            let shifted = Float(bitPattern: magnitude) + 0.5
            return sign | UInt16(truncatingIfNeeded: shifted.bitPattern &- 0x3F00_0000)
        }
        let odd = (magnitude >> 13) & 1
        let rounded = magnitude &- 0x3800_0000 &+ 0xFFF &+ odd
        return sign | UInt16(truncatingIfNeeded: rounded >> 13)
    }
}
