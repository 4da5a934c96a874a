package org.kerasseq

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

/** The tokens of a model; the id of a token is its index. By the same rules as keras_seq/data/vocabulary.py. */
class Vocabulary internal constructor(val tokens: List<String>) {
    val size: Int get() = tokens.size
    internal val pad = tokens.indexOf("<pad>") // -1: there is none
    internal val start = tokens.indexOf("<s>")
    internal val eos = tokens.indexOf("<eos>")
    internal val unknown = tokens.indexOf(if ("[UNK]" in tokens) "[UNK]" else "<unk>")
    private val reserved = setOf(pad, start, eos, unknown) - -1
    val level: Level = levelOf()
    private val ids: Map<String, Int> // of the tokens that a text may have

    init {
        requireTokens()
        val silent = setOf(pad, start, eos)
        ids = HashMap<String, Int>(2 * size).also { ids ->
            tokens.forEachIndexed { id, token -> if (id !in silent && (level != Level.CHAR || id != unknown)) ids[token] = id }
        }
    }

    internal fun isReserved(id: Int): Boolean = id == pad || id == start || id == eos || id == unknown

    /** Whether a token is never suggested or drawn: it has no text, or stands for many. */
    internal fun isForbidden(id: Int): Boolean = isReserved(id) && id != eos

    private fun levelOf(): Level {
        val characters = listOf("<pad>", "<s>", "<eos>")
        return when {
            tokens.take(4) == listOf("<pad>", "<unk>", "<s>", "<eos>") -> Level.WORD
            tokens.take(3) == characters -> Level.CHAR
            tokens.indices.all { it in reserved || isCharacter(tokens[it]) } -> Level.CHAR
            else -> Level.WHITESPACE
        }
    }

    private fun isCharacter(token: String): Boolean = token.isNotEmpty() && token.codePointCount(0, token.length) == 1

    private fun requireTokens() {
        val seen = HashSet<String>(2 * size)
        tokens.forEachIndexed { id, token ->
            val isMarked = id == 0 && token.length > 1 && token[0] == '\uFEFF'
            demand(seen.add(token) && !isMarked && (id in reserved || isValid(token))) {
                "the vocabulary is damaged: line ${id + 1} is not a new token of its level"
            }
        }
        val isEmpty = reserved.size == size && tokens.take(3) != listOf("<pad>", "<s>", "<eos>") && level != Level.WORD
        demand(!isEmpty) { "the vocabulary is damaged: it has only reserved tokens" }
    }

    private fun isValid(token: String): Boolean {
        if (token.isEmpty()) return false
        val points = Tokens.codePoints(token)
        return when (level) {
            Level.CHAR -> points.size == 1
            Level.WORD -> Tokens.endOfWordToken(points, 0) == points.size
            Level.WHITESPACE -> points.none(Tokens::isWhite)
        }
    }

    /** Requires the tokens without which no text can be written. */
    internal fun requireReserved() {
        for ((name, id) in listOf("<pad>" to pad, "<s>" to start, "<eos>" to eos)) {
            demand(id >= 0) { "the vocabulary must have $name to write text: add it with keras_seq.add_reserved_tokens" }
        }
    }

    /** Returns the ids of a text. Where there is no unknown token, what is not in the vocabulary is an error. */
    fun encode(text: String): IntArray = encode(Tokens.split(text, level))

    internal fun encode(words: List<String>): IntArray {
        val foreign = words.filter(::isForeign).distinct()
        demand(foreign.isEmpty()) {
            val named = foreign.take(10).joinToString(", ") {
                if (level == Level.CHAR) "'$it' (${Tokens.name(it.codePointAt(0))})" else "'$it'"
            }
            val kind = if (level == Level.CHAR) "characters" else "words"
            val more = if (foreign.size > 10) " and ${foreign.size - 10} more" else ""
            "the text must hold only $kind of the vocabulary. Received: $named$more"
        }
        return IntArray(words.size) { ids[words[it]] ?: unknown }
    }

    /** Split at white space, a text can have a word that is spelled like a reserved token. It is not that token. */
    private fun isForeign(word: String): Boolean {
        val isSilent = level == Level.WHITESPACE && (word == "<pad>" || word == "<s>" || word == "<eos>") && word in tokens
        return word !in ids && (unknown < 0 || isSilent)
    }

    /** Returns the text of ids that continue a text: reserved tokens except the unknown one add nothing. */
    fun decode(ids: IntArray, after: String = ""): String {
        val result = StringBuilder()
        val followsWhiteSpace = after.isEmpty() || Tokens.endsWithWhiteSpace(after)
        for (id in ids) {
            demand(id in tokens.indices) { "a token must be from 0 to ${size - 1}. Received: $id" }
            result.append(piece(id, isFirst = result.isEmpty() && followsWhiteSpace))
        }
        return result.toString()
    }

    /** Returns the text that a token adds; no space goes before it if it is the first or follows white space. */
    internal fun piece(id: Int, isFirst: Boolean): String = when {
        id == pad || id == start || id == eos -> ""
        level == Level.WHITESPACE && !isFirst -> " " + tokens[id]
        else -> tokens[id]
    }

    companion object {
        /** Returns the vocabulary of a vocab.txt. */
        internal fun parse(file: ByteArray): Vocabulary {
            val text = utf8(file, "vocab.txt")
            demand(text.endsWith("\n")) { "the vocabulary is damaged: it must end in a line feed" }
            return Vocabulary(text.dropLast(1).split("\n").mapIndexed(::unescape))
        }

        private fun unescape(number: Int, line: String): String {
            if ('\\' !in line && '\r' !in line) return line
            val isRight = '\r' !in line && line.indices.all { line[it] != '\\' || isEscape(line, it + 1) }
            demand(isRight) { "the vocabulary is damaged: line ${number + 1} has a wrong escape" }
            return line.replace("\\n", "\n").replace("\\r", "\r").replace("\\x5c", "\\")
        }

        private fun isEscape(line: String, start: Int): Boolean =
            line.startsWith("n", start) || line.startsWith("r", start) || line.startsWith("x5c", start)

        internal fun utf8(bytes: ByteArray, name: String): String = try {
            Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString()
        } catch (error: CharacterCodingException) {
            throw KerasSeqException("$name must be UTF-8", error)
        }
    }
}
