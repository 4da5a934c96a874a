package org.kerasseq

/** What a token is; the list of tokens alone decides it. */
enum class Level { CHAR, WORD, WHITESPACE }

/** The classes of characters from which word tokens are made, as in keras_seq/data/tokens.py. */
internal enum class CharacterClass { WORD, SPACE, PUNCTUATION, SINGLE }

/** Splits texts into tokens. */
internal object Tokens {
    // First and last code point of each range. What is in no range is part of a word.
    private val SPACE = intArrayOf(
        0x09, 0x0D, 0x1C, 0x20, 0x85, 0x85, 0xA0, 0xA0, 0x1680, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029,
        0x202F, 0x202F, 0x205F, 0x205F, 0x3000, 0x3000,
    )
    private val PUNCTUATION = intArrayOf(
        0x21, 0x2F, 0x3A, 0x40, 0x5B, 0x60, 0x7B, 0x7E, 0xA1, 0xA9, 0xAB, 0xAC, 0xAE, 0xB1, 0xB4, 0xB4,
        0xB6, 0xB8, 0xBB, 0xBB, 0xBF, 0xBF, 0xD7, 0xD7, 0xF7, 0xF7, 0x37E, 0x37E, 0x387, 0x387,
        0x55A, 0x55F, 0x589, 0x58A, 0x5BE, 0x5BE, 0x5C0, 0x5C0, 0x5C3, 0x5C3, 0x5C6, 0x5C6, 0x5F3, 0x5F4,
        0x60C, 0x60C, 0x61B, 0x61B, 0x61E, 0x61F, 0x66A, 0x66D, 0x6D4, 0x6D4, 0x964, 0x965, 0x970, 0x970,
        0x1361, 0x1368, 0x2010, 0x2027, 0x2030, 0x205E, 0x20A0, 0x20CF, 0x2100, 0x214F, 0x2190, 0x2BFF,
        0x2E00, 0x2E7F, 0x3001, 0x3004, 0x3008, 0x3020, 0x3030, 0x3030, 0xFE10, 0xFE1F, 0xFE30, 0xFE6F,
        0xFF01, 0xFF0F, 0xFF1A, 0xFF20, 0xFF3B, 0xFF40, 0xFF5B, 0xFF65, 0xFFE0, 0xFFEE, 0x1F000, 0x1FAFF,
    )

    // Scripts without spaces between words: every character is a token.
    private val SINGLE = intArrayOf(
        0xE01, 0xEFF, 0x1000, 0x109F, 0x1780, 0x17FF, 0x2E80, 0x2FFF, 0x3005, 0x3007, 0x3021, 0x302F,
        0x3031, 0x312F, 0x3190, 0x4DBF, 0x4E00, 0x9FFF, 0xF900, 0xFAFF, 0xFF66, 0xFF9F,
        0x1AFF0, 0x1B16F, 0x20000, 0x3FFFF,
    )

    /** Returns the class of a character. */
    fun classOf(point: Int): CharacterClass = when {
        isIn(SINGLE, point) -> CharacterClass.SINGLE
        isIn(SPACE, point) -> CharacterClass.SPACE
        isIn(PUNCTUATION, point) -> CharacterClass.PUNCTUATION
        else -> CharacterClass.WORD
    }

    private fun isIn(ranges: IntArray, point: Int): Boolean {
        for (index in ranges.indices step 2) {
            if (point in ranges[index]..ranges[index + 1]) return true
        }
        return false
    }

    fun isApostrophe(point: Int): Boolean = point == 0x27 || point == 0x2019

    /** White space as `tf.strings.split` means it. */
    fun isWhite(point: Int): Boolean = point in 0x09..0x0D || point == 0x20

    fun endsWithWhiteSpace(text: String): Boolean = text.isNotEmpty() && isWhite(text.last().code)

    /** Returns the class of the character at an index; null at the end. */
    private fun classAt(points: IntArray, index: Int): CharacterClass? =
        if (index < points.size) classOf(points[index]) else null

    /** Returns the index after the word token at `start`, which is a match of `WORD_PATTERN` in keras_seq/data/tokens.py. */
    fun endOfWordToken(points: IntArray, start: Int): Int {
        val first = if (points[start] == 0x20) start + 1 else start // at most one space belongs to a token
        val kind = classAt(points, first)
        if (kind == CharacterClass.PUNCTUATION || kind == CharacterClass.SINGLE) return first + 1
        if (kind != CharacterClass.WORD) return start + 1 // one character of white space
        var end = endOfRun(points, first)
        while (end < points.size && isApostrophe(points[end])) {
            val next = endOfRun(points, end + 1)
            if (next == end + 1) break
            end = next
        }
        return end
    }

    private fun endOfRun(points: IntArray, start: Int): Int {
        var end = start
        while (classAt(points, end) == CharacterClass.WORD) end++
        return end
    }

    /** Splits a text into tokens; at the levels `char` and `word` their concatenation is the text. */
    fun split(text: String, level: Level): List<String> {
        val points = codePoints(text)
        val tokens = ArrayList<String>()
        var start = 0
        while (start < points.size) {
            val end = when (level) {
                Level.CHAR -> start + 1
                Level.WORD -> endOfWordToken(points, start)
                Level.WHITESPACE -> endOfWord(points, start)
            }
            if (end > start) tokens.add(String(points, start, end - start))
            start = if (end > start) end else start + 1 // white space between two words
        }
        return tokens
    }

    private fun endOfWord(points: IntArray, start: Int): Int {
        var end = start
        while (end < points.size && !isWhite(points[end])) end++
        return end
    }

    /** Returns the code points of a text; refuses half of a character. */
    fun codePoints(text: String): IntArray {
        val points = IntArray(text.codePointCount(0, text.length))
        var index = 0
        for (number in points.indices) {
            val point = text.codePointAt(index)
            demand(point !in 0xD800..0xDFFF) {
                "the text must hold no lone surrogate, which is not a character. Received: ${name(point)}"
            }
            points[number] = point
            index += Character.charCount(point)
        }
        return points
    }

    /** Returns the name of a character, such as U+0009. */
    fun name(point: Int): String = "U+" + point.toString(16).uppercase().padStart(4, '0')
}
