/// The random stream of every runtime: Threefry-2x32-20, Salmon et al. 2011. A number depends on seed and position alone.
enum Threefry {
    private static let rotations: [UInt32] = [13, 15, 26, 6, 17, 29, 16, 24]
    private static let rounds = 20
    private static let parity: UInt32 = 0x1BD11BDA

    /// Returns the first word for a seed and the position of a token in its text.
    static func word(seed: UInt64, position: UInt32) -> UInt32 {
        let low = UInt32(truncatingIfNeeded: seed)
        let high = UInt32(truncatingIfNeeded: seed >> 32)
        let key = [low, high, low ^ high ^ parity]
        var x0 = position &+ key[0]
        var x1 = key[1]
        for number in 0..<rounds {
            x0 = x0 &+ x1
            let rotation = rotations[number % 8]
            x1 = (x1 << rotation | x1 >> (32 - rotation)) ^ x0
            if number % 4 == 3 {
                let injection = number / 4 + 1
                x0 = x0 &+ key[injection % 3]
                x1 = x1 &+ key[(injection + 1) % 3] &+ UInt32(injection)
            }
        }
        return x0
    }

    /// Returns a number in [0, 1): the upper 24 bits of the word.
    static func uniform(seed: UInt64, position: UInt32) -> Float {
        Float(word(seed: seed, position: position) >> 8) * (1 / 16_777_216)
    }
}
