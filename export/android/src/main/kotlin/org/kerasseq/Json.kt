package org.kerasseq

/**
 * Reads JSON into maps, lists, strings, booleans, null, Double and Long; an integer of more than 64 bits is a BigInteger.
 *
 * Android's own reader is not strict, and does not exist on other JVMs, where this code is tested.
 */
internal class Json private constructor(private val text: String) {
    private var position = 0

    companion object {
        const val DEEPEST = 20 // objects and lists inside each other
        private val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?")
        private val NAMES = mapOf("true" to true, "false" to false, "null" to null)

        /** Returns the value of a JSON text. */
        fun parse(text: String): Any? {
            val reader = Json(text.removePrefix("\uFEFF"))
            val value = reader.value(0)
            reader.skipSpace()
            demand(reader.position == reader.text.length) { "it is not valid JSON: there is more after the value" }
            return value
        }
    }

    private fun fail(): Nothing = throw KerasSeqException("it is not valid JSON at character $position")

    private fun peek(): Char = if (position < text.length) text[position] else fail()

    private fun skipSpace() {
        while (position < text.length && text[position] in " \t\n\r") position++
    }

    private fun expect(wanted: Char) {
        if (peek() != wanted) fail()
        position++
    }

    private fun value(depth: Int): Any? {
        demand(depth <= DEEPEST) { "it is nested too deeply" }
        skipSpace()
        return when (peek()) {
            '{' -> record(depth)
            '[' -> list(depth)
            '"' -> string()
            else -> nameOrNumber()
        }
    }

    private fun record(depth: Int): Map<String, Any?> {
        val values = LinkedHashMap<String, Any?>()
        position++
        skipSpace()
        if (peek() == '}') {
            position++
            return values
        }
        while (true) {
            skipSpace()
            val name = string()
            skipSpace()
            expect(':')
            values[name] = value(depth + 1)
            skipSpace()
            if (peek() == '}') break
            expect(',')
        }
        position++
        return values
    }

    private fun list(depth: Int): List<Any?> {
        val values = ArrayList<Any?>()
        position++
        skipSpace()
        if (peek() == ']') {
            position++
            return values
        }
        while (true) {
            values.add(value(depth + 1))
            skipSpace()
            if (peek() == ']') break
            expect(',')
        }
        position++
        return values
    }

    private fun string(): String {
        expect('"')
        val result = StringBuilder()
        while (peek() != '"') {
            val character = text[position++]
            if (character < ' ') fail()
            result.append(if (character == '\\') escaped() else character)
        }
        position++
        return result.toString()
    }

    private fun escaped(): Char {
        val character = peek()
        position++
        return when (character) {
            '"', '\\', '/' -> character
            'b' -> '\b'
            'f' -> '\u000C'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> codeUnit()
            else -> fail()
        }
    }

    private fun codeUnit(): Char {
        if (position + 4 > text.length) fail()
        val digits = text.substring(position, position + 4)
        if (!digits.all { it in "0123456789abcdefABCDEF" }) fail()
        position += 4
        return digits.toInt(16).toChar()
    }

    private fun nameOrNumber(): Any? {
        for ((name, value) in NAMES) {
            if (text.startsWith(name, position)) {
                position += name.length
                return value
            }
        }
        val found = NUMBER.matchAt(text, position) ?: fail()
        position += found.value.length
        val isInteger = found.groupValues[2].isEmpty() && found.groupValues[3].isEmpty()
        if (isInteger) return found.value.toLongOrNull() ?: found.value.toBigInteger()
        return found.value.toDouble().also { demand(it.isFinite()) { "a number is not finite" } }
    }
}
