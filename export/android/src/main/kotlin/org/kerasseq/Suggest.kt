package org.kerasseq

/**
 * A word that may come next, or that completes the one which has been begun.
 *
 * @property text the whole word, for a button.
 * @property insert what is to be appended to the text.
 * @property probability given all that is typed.
 */
data class Suggestion(val text: String, val insert: String, val probability: Double)

/** Suggests tokens: at the levels `word` and `whitespace` one look at the logits is enough. */
internal fun suggestTokens(model: TextModel, text: String, count: Int): List<Suggestion> {
    val vocabulary = model.vocabulary
    val (context, begun) = beginning(text, vocabulary.level)
    val logits = model.read(vocabulary.encode(context)).logits
    val matching = vocabulary.tokens.indices.filter { id ->
        if (id == vocabulary.eos) begun.isEmpty() else !vocabulary.isForbidden(id) && vocabulary.tokens[id].startsWith(begun)
    }
    requireNumbers(logits)
    if (matching.isEmpty()) return emptyList()
    val most = matching.maxOf { logits[it] }.toDouble()
    val sum = matching.sumOf { Math.exp(logits[it] - most) }
    val likeliest = matching.filter { isCandidate(vocabulary, it, begun) }.sortedByDescending { logits[it] }.map { id ->
        val token = vocabulary.tokens[id]
        Suggestion(token.removePrefix(" "), token.substring(begun.length), Math.exp(logits[id] - most) / sum)
    }
    // A word is there once, with a space before it or without. What is impossible (or NaN, if all are) is not suggested.
    return likeliest.filter { it.probability > 0 }.distinctBy { it.text }.take(count)
}

/** Returns the tokens before the word that has been begun at the end of a text, and that word. */
private fun beginning(text: String, level: Level): Pair<List<String>, String> {
    val tokens = Tokens.split(text, level)
    val last = tokens.lastOrNull() ?: return Pair(tokens, "")
    if (level == Level.WHITESPACE) {
        return if (Tokens.endsWithWhiteSpace(text)) Pair(tokens, "") else Pair(tokens.dropLast(1), last)
    }
    val before = tokens.getOrNull(tokens.size - 2)
    return when {
        last == " " || wordClass(last) == CharacterClass.WORD -> Pair(tokens.dropLast(1), last)
        (last == "'" || last == "\u2019") && before != null && wordClass(before) == CharacterClass.WORD ->
            Pair(tokens.dropLast(2), before + last)
        else -> Pair(tokens, "")
    }
}

/** Returns the class of the first character of a word token, after the space that it may begin with. */
private fun wordClass(token: String): CharacterClass {
    val first = if (token.startsWith(" ") && token.length > 1) 1 else 0
    return Tokens.classOf(token.codePointAt(first))
}

private fun isCandidate(vocabulary: Vocabulary, id: Int, begun: String): Boolean {
    val token = vocabulary.tokens[id]
    if (vocabulary.isReserved(id) || token.length <= begun.length) return false
    return vocabulary.level == Level.WHITESPACE || wordClass(token) in listOf(CharacterClass.WORD, CharacterClass.SINGLE)
}

private fun requireNumbers(logits: FloatArray) = demand(logits.none { it.isNaN() } && logits.max().isFinite()) {
    "no word can be suggested: the model's logits must be numbers, not NaN, and the largest finite"
}

/** Suggests words of characters: a search for the likeliest, which reads one character at a time. */
internal class WordSearch(private val model: TextModel) {
    /** Where a word stands: what may follow depends on this alone. */
    private enum class Place { OPEN, SPACED, INSIDE, JOINED, COMPLETE }

    /** A beginning of a word. `before` are the states before its last character, which are null at the root. */
    private class Node(
        val logProbability: Double, val order: Int, val insert: List<Int>, val place: Place, val before: States?,
    ) : Comparable<Node> {
        override fun compareTo(other: Node): Int = compareValuesBy(this, other, { -it.logProbability }, { it.order })
    }

    private companion object {
        const val MOST_CALLS = 64 // of `decode`
        const val MOST_CHILDREN = 32 // of a node
        const val LONGEST = 32 // characters of an insert
    }

    private val vocabulary = model.vocabulary
    private val points = IntArray(vocabulary.size) { if (vocabulary.isReserved(it)) -1 else vocabulary.tokens[it].codePointAt(0) }
    private val queue = java.util.PriorityQueue<Node>()
    private var created = 0

    fun suggest(text: String, count: Int): List<Suggestion> {
        val step = model.read(vocabulary.encode(text))
        val typed = Tokens.codePoints(text)
        val begun = beginningOf(typed)
        add(0.0, emptyList(), startOf(typed, begun), null)
        val found = LinkedHashMap<String, Suggestion>()
        var calls = 0
        while (queue.isNotEmpty() && found.size < count) {
            val node = queue.remove()
            if (node.place == Place.COMPLETE) {
                val insert = textOf(node.insert)
                val word = (textOf(begun) + insert).removePrefix(" ")
                if (word !in found) found[word] = Suggestion(word, insert, Math.exp(node.logProbability))
            } else if (node.before == null) {
                expand(node, step)
            } else if (calls < MOST_CALLS) {
                calls++
                expand(node, model.decode(points.indexOf(node.insert.last()), node.before))
            }
        }
        return found.values.toList()
    }

    private fun textOf(points: List<Int>): String = String(points.toIntArray(), 0, points.size)

    private fun add(logProbability: Double, insert: List<Int>, place: Place, before: States?) {
        if (logProbability > Double.NEGATIVE_INFINITY) queue.add(Node(logProbability, created++, insert, place, before))
    }

    /** Returns the longest end of a text that is words joined by apostrophes, and perhaps one more apostrophe. */
    private fun beginningOf(typed: IntArray): List<Int> {
        var start = typed.size
        while (start > 0) {
            val isWord = Tokens.classOf(typed[start - 1]) == CharacterClass.WORD
            val joins = Tokens.isApostrophe(typed[start - 1]) && start > 1 && Tokens.classOf(typed[start - 2]) == CharacterClass.WORD
            if (!isWord && !joins) break
            start--
        }
        return typed.drop(start)
    }

    private fun startOf(typed: IntArray, begun: List<Int>): Place = when {
        begun.isNotEmpty() -> if (Tokens.isApostrophe(begun.last())) Place.JOINED else Place.INSIDE
        typed.isEmpty() || Tokens.classOf(typed.last()) == CharacterClass.SPACE -> Place.SPACED
        else -> Place.OPEN
    }

    /** Returns the place after a character; null if it cannot follow. */
    private fun follow(place: Place, point: Int): Place? {
        if (point < 0) return null
        val kind = Tokens.classOf(point)
        val isBetweenWords = place == Place.OPEN || place == Place.SPACED
        return when {
            kind == CharacterClass.WORD -> Place.INSIDE
            kind == CharacterClass.SINGLE && isBetweenWords -> Place.COMPLETE
            point == 0x20 && place == Place.OPEN -> Place.SPACED
            Tokens.isApostrophe(point) && place == Place.INSIDE -> Place.JOINED
            else -> null
        }
    }

    private fun endsWord(id: Int): Boolean {
        if (vocabulary.isForbidden(id)) return false
        return points[id] < 0 || Tokens.classOf(points[id]) != CharacterClass.WORD && !Tokens.isApostrophe(points[id])
    }

    /** Adds the word that ends here, and the likeliest nodes that are one character longer. */
    private fun expand(node: Node, step: Step) {
        requireNumbers(step.logits)
        val logProbabilities = logSoftmax(step.logits) { !vocabulary.isForbidden(it) }
        if (node.place == Place.INSIDE && node.insert.isNotEmpty()) {
            val ends = points.indices.sumOf { if (endsWord(it)) Math.exp(logProbabilities[it]) else 0.0 }
            add(node.logProbability + Math.log(ends), node.insert, Place.COMPLETE, null)
        }
        if (node.insert.size >= LONGEST) return
        val following = points.indices.filter { follow(node.place, points[it]) != null }
        for (id in following.sortedByDescending { step.logits[it] }.take(MOST_CHILDREN)) {
            val place = follow(node.place, points[id])!!
            add(node.logProbability + logProbabilities[id], node.insert + points[id], place, step.states)
        }
    }
}
