package org.kerasseq

import java.security.SecureRandom

/** How a token is drawn. */
data class Settings(val temperature: Float = 1f, val topK: Int = 0, val topP: Float = 1f, val minP: Float = 0f) {
    init {
        requireRanges(temperature, topK, topP, minP)
    }

    internal companion object {
        private val WITHOUT = mapOf(
            "temperature" to 1L, "top_k" to 0L, "top_p" to 1L, "min_p" to 0L, "repetition_penalty" to 1L,
            "allow_unk" to false, "bias" to emptyMap<String, Any?>(),
        )

        private fun requireRanges(temperature: Number, topK: Number, topP: Number, minP: Number) {
            demand(temperature.toDouble() in 0.0..1e6) {
                "`temperature` must be from 0 (the likeliest token) to 1e6. Received: $temperature"
            }
            demand(topK.toDouble() >= 0) { "`topK` must be 0 (off) or a positive number. Received: $topK" }
            demand(topP.toDouble() > 0 && topP.toDouble() <= 1) { "`topP` must be above 0 and at most 1 (off). Received: $topP" }
            demand(minP.toDouble() in 0.0..1.0) { "`minP` must be from 0 (off) to 1. Received: $minP" }
        }

        /** Returns the settings that a file stores; refuses those that its signatures do not apply. */
        fun stored(sampling: Map<*, *>, vocabulary: Vocabulary): Settings {
            val all = WITHOUT + sampling // what is null stays null, and is refused
            val allowUnknown = all["allow_unk"]
            val bias = all["bias"]
            demand(WITHOUT.keys.containsAll(sampling.keys) && allowUnknown is Boolean && bias is Map<*, *>) { DAMAGED }
            for ((token, value) in bias as Map<*, *>) {
                val id = vocabulary.tokens.indexOf(token)
                val isDrawn = id >= 0 && (!vocabulary.isForbidden(id) || id == vocabulary.unknown && allowUnknown == true)
                demand(isDrawn && Math.abs(number(value).toDouble()) <= 1e30) { DAMAGED }
            }
            val penalty = number(all["repetition_penalty"]).toDouble()
            demand(penalty == 1.0) { "the file must have no repetition_penalty, which its signatures do not apply" }
            val (temperature, topK, topP, minP) = listOf("temperature", "top_k", "top_p", "min_p").map { number(all[it]) }
            demand(topK !is Double) { DAMAGED }
            requireRanges(temperature, topK, topP, minP) // before they are rounded to float32
            return Settings(
                temperature.toFloat(), minOf(topK.toDouble(), Int.MAX_VALUE.toDouble()).toInt(),
                maxOf(topP.toFloat(), Float.MIN_VALUE), minP.toFloat(),
            )
        }

        private fun number(value: Any?): Number = value as? Number ?: throw KerasSeqException(DAMAGED)

        private const val DAMAGED = "the file has damaged sampling defaults"
    }
}

/** What to write. Settings that are null are those stored in the file; a seed that is null is a random one. */
class Options(
    val maxTokens: Int = 200,
    val temperature: Float? = null,
    val topK: Int? = null,
    val topP: Float? = null,
    val minP: Float? = null,
    val seed: Long? = null,
    val stop: List<String> = emptyList(),
)

/** The text of one token. */
class Piece(val text: String, val token: Int, val logProbability: Float)

/**
 * Writes a continuation of a prompt, piece by piece. The seed and a token's position alone decide its draw.
 *
 * One thread at a time may use a writer. `settings` may be changed between two pieces; the change takes effect from the next
 * token that is drawn.
 */
class Writer internal constructor(private val model: TextModel, prompt: String, options: Options) : Iterator<Piece> {
    /** The seed, which repeats this text. */
    val seed: Long = options.seed ?: (SecureRandom().nextLong() ushr 1)

    /** "eos", "stop" or "length" when the text has ended; otherwise null. */
    var finishReason: String? = null
        private set

    /** How the next token is drawn. */
    var settings: Settings = Settings(
        options.temperature ?: model.defaults.temperature, options.topK ?: model.defaults.topK,
        options.topP ?: model.defaults.topP, options.minP ?: model.defaults.minP,
    )
        set(value) {
            if (value != field && finishReason == null) rewind() // with the settings with which the tokens were drawn
            field = value
        }

    private val vocabulary = model.vocabulary
    private val stops = options.stop
    private val maxTokens = options.maxTokens
    private val followsWhiteSpace = prompt.isEmpty() || Tokens.endsWithWhiteSpace(prompt)
    private var position = 0 // of the next token
    private var held = "" // the text of `holding`
    private val holding = ArrayDeque<Piece>() // pieces that may belong to a stop string
    private val ready = ArrayDeque<Piece>() // pieces that do not

    /** Tokens that were drawn together, and the states that the last draw returned. */
    private class Block(val tokens: IntArray, val logProbabilities: FloatArray, val after: States)

    private var block = EMPTY
    private var used = 0 // tokens of the block that were taken
    private var token: Int // the last one before the block
    private var states: States // the states before the model reads `token`
    private var singly = 0 // tokens that are to be drawn one by one

    init {
        demand(maxTokens >= 1) { "`maxTokens` must be at least 1. Received: $maxTokens" }
        for (one in stops) {
            demand(one.isNotEmpty()) { "`stop` must have strings of at least one character" }
            Tokens.codePoints(one)
        }
        val context = listOf(vocabulary.start) + vocabulary.encode(prompt).asList()
        token = context.last()
        states = model.statesAfter(context.dropLast(1))
    }

    override fun hasNext(): Boolean {
        while (ready.isEmpty() && finishReason == null) draw()
        return ready.isNotEmpty()
    }

    override fun next(): Piece {
        if (!hasNext()) throw NoSuchElementException("the text has ended")
        return ready.removeFirst()
    }

    /** Takes the next token; moves pieces that cannot belong to a stop string to those that are ready. */
    private fun draw() {
        if (position == maxTokens) return finish("length")
        if (used == block.tokens.size) fill()
        val drawn = block.tokens[used]
        val logProbability = block.logProbabilities[used]
        used++
        position++
        if (drawn == vocabulary.eos) return finish("eos")
        val piece = Piece(vocabulary.piece(drawn, position == 1 && followsWhiteSpace), drawn, logProbability)
        if (stops.isEmpty()) {
            ready.addLast(piece)
        } else {
            hold(piece)
        }
    }

    private fun hold(piece: Piece) {
        holding.addLast(piece)
        held += piece.text
        val stop = StopStrings.find(held, stops)
        if (stop >= 0) {
            cut(stop)
            return finish("stop")
        }
        var safe = held.length - StopStrings.unfinished(held, stops)
        while (holding.isNotEmpty() && holding.first().text.length <= safe) {
            val decided = holding.removeFirst()
            held = held.substring(decided.text.length)
            safe -= decided.text.length
            ready.addLast(decided)
        }
    }

    /** Keeps the pieces of the first `length` characters that are held; the last of them is cut if necessary. */
    private fun cut(length: Int) {
        var rest = length
        while (rest > 0) {
            val piece = holding.removeFirst()
            ready.addLast(Piece(piece.text.take(rest), piece.token, piece.logProbability))
            rest -= piece.text.length
        }
        holding.clear()
    }

    private fun finish(reason: String) {
        finishReason = reason
        ready.addAll(holding)
        holding.clear()
    }

    /** Draws the next tokens, as many as one call can. */
    private fun fill() {
        if (used > 0) {
            token = block.tokens.last()
            states = block.after
            block = EMPTY // before the draw, which may fail
            used = 0
        }
        if (singly == 0 && model.writes) {
            val length = minOf(TextModel.BLOCK, maxTokens - position)
            write(length)?.let {
                block = it
                return
            }
            singly = length // so that the tokens before the bad one are delivered, and the error names that one
        }
        block = sample()
        if (singly > 0) singly--
    }

    /** Goes back to the states after the tokens that were taken, so that the others can be drawn again. */
    private fun rewind() {
        if (used == block.tokens.size) return
        if (used > 0) {
            val again = write(used) ?: throw KerasSeqException("the model is damaged: `write` does not repeat what it wrote")
            states = again.after
            token = block.tokens[used - 1]
        }
        block = EMPTY
        used = 0
        singly = 0
    }

    private fun settingsInputs(): Map<String, Any> = mapOf(
        "temperature" to floatArrayOf(settings.temperature),
        "top_k" to intArrayOf(minOf(settings.topK, vocabulary.size)),
        "top_p" to floatArrayOf(settings.topP),
        "min_p" to floatArrayOf(settings.minP),
        "token" to intArrayOf(token),
    )

    /** Draws up to `length` tokens in one call; returns null if the runtime fails, or a token cannot be drawn. */
    private fun write(length: Int): Block? {
        val first = position - used // the position of the block's first token
        val uniforms = FloatArray(TextModel.BLOCK) { if (it < length) Threefry.uniform(seed, first + it) else 0f }
        val inputs = settingsInputs() + mapOf("uniforms" to uniforms, "length" to intArrayOf(length))
        val (outputs, after) = try {
            model.run("write", inputs, states)
        } catch (error: RuntimeFailure) {
            return null
        }
        val count = (outputs.getValue("count") as IntArray)[0]
        demand(count in 1..length) { "the model is damaged: `write` returned $count tokens of $length" }
        val tokens = (outputs.getValue("tokens") as IntArray).copyOf(count)
        val logProbabilities = (outputs.getValue("log_probabilities") as FloatArray).copyOf(count)
        if (!logProbabilities.all { it.isFinite() }) return null
        tokens.forEach(::requireToken)
        return Block(tokens, logProbabilities, after)
    }

    /** Draws one token. */
    private fun sample(): Block {
        val inputs = settingsInputs() + mapOf("uniform" to floatArrayOf(Threefry.uniform(seed, position)))
        val (outputs, after) = try {
            model.run("sample", inputs, states)
        } catch (error: RuntimeFailure) {
            // LiteRT ends in an error, too, if the logits are not finite.
            demand(model.decode(token, states).logits.all { it.isFinite() }) { notFinite() }
            throw error
        }
        val logProbabilities = outputs.getValue("log_probability") as FloatArray
        demand(logProbabilities[0].isFinite()) { notFinite() }
        val tokens = outputs.getValue("next_token") as IntArray
        requireToken(tokens[0])
        return Block(tokens, logProbabilities, after)
    }

    private fun notFinite() = "token $position cannot be sampled: the model's logits are not finite"

    private fun requireToken(drawn: Int) = demand(drawn in 0 until vocabulary.size) {
        "the model is damaged: it returned token $drawn of ${vocabulary.size}"
    }

    private companion object {
        val EMPTY = Block(IntArray(0), FloatArray(0), emptyList())
    }
}
