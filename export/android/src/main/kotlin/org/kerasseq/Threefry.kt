package org.kerasseq

/** The random stream of every runtime: Threefry-2x32-20, Salmon et al. 2011. A number depends on seed and position alone. */
internal object Threefry {
    private val ROTATIONS = intArrayOf(13, 15, 26, 6, 17, 29, 16, 24)
    private const val ROUNDS = 20
    private const val PARITY = 0x1BD11BDA

    /** Returns the first word for a seed and the position of a token in its text. */
    fun word(seed: Long, position: Int): Int {
        val low = seed.toInt()
        val high = (seed ushr 32).toInt()
        val key = intArrayOf(low, high, low xor high xor PARITY)
        var x0 = position + key[0]
        var x1 = key[1]
        for (number in 0 until ROUNDS) {
            x0 += x1
            x1 = x1.rotateLeft(ROTATIONS[number % 8]) xor x0
            if (number % 4 == 3) {
                val injection = number / 4 + 1
                x0 += key[injection % 3]
                x1 += key[(injection + 1) % 3] + injection
            }
        }
        return x0
    }

    /** Returns a number in [0, 1): the upper 24 bits of the word. */
    fun uniform(seed: Long, position: Int): Float = (word(seed, position) ushr 8) * (1f / 16777216f)
}
