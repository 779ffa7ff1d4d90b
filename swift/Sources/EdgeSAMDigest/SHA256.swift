import Foundation

/// SHA-256 of a stream of bytes (FIPS 180-4, section 6.2).  Linux has no CryptoKit.
///
/// Local variables, wrapping operators and `while` keep it usable in debug builds, where tests hash whole packages.
public struct SHA256 {
    private static let blockBytes = 64
    private static let constants: [UInt32] = [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ]

    private var state: [UInt32] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    private var schedule = [UInt32](repeating: 0, count: 64)
    /// Bytes that do not fill a block yet.
    private var rest: [UInt8] = []
    private var total: UInt64 = 0

    public init() {}

    /// Adds bytes.
    public mutating func update(_ data: some DataProtocol) {
        for region in data.regions {
            region.withUnsafeBytes { update(bytes: $0) }
        }
    }

    /// The digest as 64 lower-case hexadecimal digits.  Adding bytes afterwards makes no sense.
    public mutating func finish() -> String {
        let bits = total &* 8
        var padding: [UInt8] = [0x80]
        let used = (rest.count + 1) % Self.blockBytes
        padding += [UInt8](repeating: 0, count: (Self.blockBytes + 56 - used) % Self.blockBytes)
        for shift in stride(from: UInt64(56), through: 0, by: -8) {
            padding.append(UInt8(truncatingIfNeeded: bits >> shift))
        }
        padding.withUnsafeBytes { update(bytes: $0) }
        return state.map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 8 - digits.count) + digits
        }.joined()
    }

    /// The digest of `data` as 64 lower-case hexadecimal digits.
    public static func hexDigest(of data: some DataProtocol) -> String {
        var digest = SHA256()
        digest.update(data)
        return digest.finish()
    }

    private mutating func update(bytes: UnsafeRawBufferPointer) {
        total &+= UInt64(bytes.count)
        var position = 0
        if !rest.isEmpty {
            position = min(Self.blockBytes - rest.count, bytes.count)
            rest += bytes[0..<position]
            guard rest.count == Self.blockBytes else { return }
            let block = rest
            rest.removeAll(keepingCapacity: true)
            block.withUnsafeBytes { if let base = $0.baseAddress { compress(base) } }
        }
        while bytes.count - position >= Self.blockBytes, let base = bytes.baseAddress {
            compress(base + position)
            position += Self.blockBytes
        }
        rest += bytes[position...]
    }

    private mutating func compress(_ block: UnsafeRawPointer) {
        schedule.withUnsafeMutableBufferPointer { buffer in
            guard let words = buffer.baseAddress else { return }
            Self.expand(block, into: words)
        }
        Self.constants.withUnsafeBufferPointer { constants in
            schedule.withUnsafeBufferPointer { words in
                guard let constant = constants.baseAddress, let word = words.baseAddress else { return }
                Self.rounds(&state, word, constant)
            }
        }
    }

    private static func expand(_ block: UnsafeRawPointer, into words: UnsafeMutablePointer<UInt32>) {
        var index = 0
        while index < 16 {
            words[index] = UInt32(bigEndian: block.loadUnaligned(fromByteOffset: index &* 4, as: UInt32.self))
            index &+= 1
        }
        while index < 64 {
            let early = words[index &- 15]
            let late = words[index &- 2]
            let first = ((early &>> 7) | (early &<< 25)) ^ ((early &>> 18) | (early &<< 14)) ^ (early &>> 3)
            let second = ((late &>> 17) | (late &<< 15)) ^ ((late &>> 19) | (late &<< 13)) ^ (late &>> 10)
            words[index] = words[index &- 16] &+ first &+ words[index &- 7] &+ second
            index &+= 1
        }
    }

    private static func rounds(
        _ state: inout [UInt32], _ words: UnsafePointer<UInt32>, _ constants: UnsafePointer<UInt32>
    ) {
        var a = state[0]
        var b = state[1]
        var c = state[2]
        var d = state[3]
        var e = state[4]
        var f = state[5]
        var g = state[6]
        var h = state[7]
        var index = 0
        while index < 64 {
            let highSum = ((e &>> 6) | (e &<< 26)) ^ ((e &>> 11) | (e &<< 21)) ^ ((e &>> 25) | (e &<< 7))
            let choice = (e & f) ^ (~e & g)
            let first = h &+ highSum &+ choice &+ constants[index] &+ words[index]
            let lowSum = ((a &>> 2) | (a &<< 30)) ^ ((a &>> 13) | (a &<< 19)) ^ ((a &>> 22) | (a &<< 10))
            let majority = (a & b) ^ (a & c) ^ (b & c)
            h = g
            g = f
            f = e
            e = d &+ first
            d = c
            c = b
            b = a
            a = first &+ lowSum &+ majority
            index &+= 1
        }
        state[0] &+= a
        state[1] &+= b
        state[2] &+= c
        state[3] &+= d
        state[4] &+= e
        state[5] &+= f
        state[6] &+= g
        state[7] &+= h
    }
}
