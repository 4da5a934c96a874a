package org.kerasseq

/** Runs the signatures of a model: arrays by name in, arrays by name out, each an IntArray or a FloatArray. */
internal fun interface Runner {
    fun run(signature: String, inputs: Map<String, Any>): Map<String, Any>
}

/** The states of a model between two tokens, a flat array for each. They are never changed. */
internal typealias States = List<FloatArray>

/** The logits after a token, and the states after it. */
internal class Step(val logits: FloatArray, val states: States)

/** A language model: a bundle, and what runs the signatures of its model. It does not depend on Android. */
internal class TextModel(val bundle: ModelBundle, private val signatures: Map<String, Signature>, private val runner: Runner) {
    val vocabulary: Vocabulary
    val defaults: Settings // those stored in the file
    private val stateNames: List<String>
    private val prefillSteps: Int
    private val firstStates: States
    val writes: Boolean get() = "write" in signatures

    /** What was read last, so that a text which grows is not read again from its beginning. */
    private var lastRead: Pair<List<Int>, Step>? = null

    init {
        val words = bundle.vocabulary
        demand(words != null) { "the file has no vocabulary, so it cannot write text" }
        vocabulary = words!!
        vocabulary.requireReserved()
        demand(bundle.config["state"] == "explicit") { "the file must have explicit states: export it with --state=explicit" }
        demand(bundle.config["batch"] == 1L) { "the file must take one row of text: export it without --batch" }
        demand("encode" !in signatures) { "the file begins with the states of an encoder, which this library cannot run" }
        defaults = Settings.stored(bundle.config["sampling"] as Map<*, *>, vocabulary)
        stateNames = signature("decode").states
        prefillSteps = signature("prefill").inputs["tokens"]?.shape?.lastOrNull() ?: 0
        requireSignatures()
        firstStates = if ("start" in signatures) states(run("start", emptyMap())) else zeros()
    }

    private fun signature(name: String): Signature =
        signatures[name] ?: throw KerasSeqException("the model must have the signature $name: export it with keras-seq export")

    /** Requires each signature to have the inputs and outputs that are used, and to return the states that the next one takes. */
    private fun requireSignatures() {
        val number = TensorShape(true, listOf(1))
        val integer = TensorShape(false, listOf(1))
        val settings = mapOf("temperature" to number, "top_k" to integer, "top_p" to number, "min_p" to number)
        val block = listOf(1, BLOCK)
        val tokens = mapOf("tokens" to TensorShape(false, listOf(1, prefillSteps)), "length" to integer)
        val logits = mapOf("logits" to TensorShape(true, listOf(1, vocabulary.size)))
        val names = stateNames.indices.map { "state_$it" }
        demand(names.isNotEmpty() && stateNames == names) { "the model is damaged: it has the states $stateNames" }
        demand(prefillSteps > 0) { "the model is damaged: prefill takes no tokens" }
        requireTensors("decode", mapOf("token" to integer), logits)
        requireTensors("prefill", tokens, logits)
        requireTensors(
            "sample", settings + mapOf("token" to integer, "uniform" to number),
            mapOf("next_token" to integer, "log_probability" to number),
        )
        if (writes) {
            requireTensors(
                "write", settings + mapOf("token" to integer, "uniforms" to TensorShape(true, block), "length" to integer),
                mapOf("tokens" to TensorShape(false, block), "log_probabilities" to TensorShape(true, block), "count" to integer),
            )
        }
        if ("start" in signatures) requireTensors("start", null, emptyMap())
    }

    private fun requireTensors(name: String, inputs: Map<String, TensorShape>?, outputs: Map<String, TensorShape>) {
        val states = signature("decode").inputs.filterKeys { it in stateNames }
        val fits = (inputs == null || signature(name).inputs == inputs + states) && signature(name).outputs == outputs + states
        demand(fits) {
            "the model must have inputs and outputs of $name for ${vocabulary.size} tokens: it is damaged, or of another version"
        }
    }

    private fun zeros(): States = stateNames.map { FloatArray(signature("decode").inputs.getValue(it).shape.fold(1, Int::times)) }

    private fun states(outputs: Map<String, Any>): States = stateNames.map { outputs.getValue(it) as FloatArray }

    private fun run(name: String, inputs: Map<String, Any>): Map<String, Any> = runner.run(name, inputs)

    /** Runs a signature from some states; returns its outputs and the states after it. */
    fun run(name: String, inputs: Map<String, Any>, before: States): Pair<Map<String, Any>, States> {
        val outputs = run(name, inputs + stateNames.zip(before))
        return Pair(outputs, states(outputs))
    }

    /** Returns the step after one token. */
    fun decode(token: Int, before: States): Step = step(run("decode", mapOf("token" to intArrayOf(token)), before))

    private fun step(answer: Pair<Map<String, Any>, States>) = Step(answer.first.getValue("logits") as FloatArray, answer.second)

    /** Returns the step after `tokens`, which are at least one. */
    private fun prefill(tokens: List<Int>, before: States): Step {
        var step: Step? = null
        for (part in tokens.chunked(prefillSteps)) {
            val padded = IntArray(prefillSteps) { part.getOrElse(it) { 0 } }
            val inputs = mapOf("tokens" to padded, "length" to intArrayOf(part.size))
            step = step(run("prefill", inputs, step?.states ?: before))
        }
        return step!!
    }

    /** Returns the states after `<s>` and some tokens, of which there may be none at all. */
    fun statesAfter(context: List<Int>): States = if (context.isEmpty()) firstStates else prefill(context, firstStates).states

    /** Returns the step after `<s>` and the tokens of a text; reads only what was not read by the last call. */
    fun read(tokens: IntArray): Step = synchronized(this) {
        val all = listOf(vocabulary.start) + tokens.asList()
        val (known, step) = lastRead?.takeIf { it.first == all.take(it.first.size) } ?: Pair(emptyList(), null)
        val rest = all.drop(known.size)
        val found = if (rest.isEmpty()) step!! else prefill(rest, step?.states ?: firstStates)
        lastRead = Pair(all, found)
        found
    }

    /** Returns a writer of a continuation of a prompt. */
    fun write(prompt: String, options: Options = Options()): Writer = Writer(this, prompt, options)

    /** Returns up to `count` words that may come next, or that complete the word which ends the text, the likeliest first. */
    fun suggest(text: String, count: Int = 3): List<Suggestion> {
        demand(count in 1..100) { "`count` must be from 1 to 100. Received: $count" }
        return if (vocabulary.level == Level.CHAR) WordSearch(this).suggest(text, count) else suggestTokens(this, text, count)
    }

    /** Returns the log-probability in nats of each token of a text, given `<s>` and the tokens before it. */
    fun score(text: String): Score {
        val tokens = vocabulary.encode(text)
        var states = firstStates
        val logProbabilities = DoubleArray(tokens.size) { position ->
            val step = decode(if (position == 0) vocabulary.start else tokens[position - 1], states)
            states = step.states
            val found = logSoftmax(step.logits)[tokens[position]]
            demand(!found.isNaN()) { "token $position cannot be scored: the model's logits are not finite" }
            found
        }
        return Score(tokens, logProbabilities)
    }

    companion object {
        const val BLOCK = 32 // tokens of a call of `write`
    }
}

/** The tokens of a text, and the log-probability of each in nats. */
class Score(val tokens: IntArray, val logProbabilities: DoubleArray) {
    val logProbability: Double get() = logProbabilities.sum()
}

/** Returns the logarithms of the softmax of some logits; of all, or of those for which `isAllowed` is true. */
internal fun logSoftmax(logits: FloatArray, isAllowed: (Int) -> Boolean = { true }): DoubleArray {
    var most = Double.NEGATIVE_INFINITY
    for (id in logits.indices) if (isAllowed(id)) most = maxOf(most, logits[id].toDouble())
    var sum = 0.0
    for (id in logits.indices) if (isAllowed(id)) sum += Math.exp(logits[id] - most)
    val total = most + Math.log(sum)
    return DoubleArray(logits.size) { logits[it] - total }
}
