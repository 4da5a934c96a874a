package org.kerasseq

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import java.io.File
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.withContext

/**
 * A language model in one .tflite of keras_seq, on LiteRT.
 *
 * This file was compiled against the signatures of LiteRT's published sources, and was run with LiteRT behind a stand-in for
 * its Kotlin API. It was not run on a device. The other files of this folder do not depend on Android, and are tested.
 *
 * Threads and coroutines may share a model: each call of LiteRT has it alone. Close it when it is no longer needed.
 */
class KerasSeq private constructor(private val model: TextModel, private val runner: LiteRTRunner) : AutoCloseable {
    /** The model card of the file, as maps, lists, strings, numbers, booleans and null. */
    val card: Map<String, Any?> get() = model.bundle.card

    /** How a token is drawn if the options do not say it: as the file stores. */
    val defaults: Settings get() = model.defaults

    /** The tokens of the model, with `encode` and `decode`. */
    val vocabulary: Vocabulary get() = model.vocabulary

    companion object {
        /**
         * Opens a model among the assets of the app.
         *
         * @param asset its path there, such as "shakespeare.tflite"; the app must not compress assets of this kind.
         * @throws KerasSeqException the file is damaged, or not a model of text.
         */
        suspend fun open(context: Context, asset: String): KerasSeq = opening {
            val file = context.assets.open(asset).use { it.readBytes() }
            opened(file) { CompiledModel.create(context.assets, asset, options()) }
        }

        /** Opens a model that the app has downloaded; see the other function. */
        suspend fun open(path: File): KerasSeq = opening {
            opened(path.readBytes()) { CompiledModel.create(path.path, options()) }
        }

        /** Opens a model outside of the main thread; closes it if the caller was cancelled meanwhile. */
        private suspend fun opening(make: () -> KerasSeq): KerasSeq {
            var made: KerasSeq? = null
            try {
                return withContext(Dispatchers.IO) { make().also { made = it } }
            } catch (error: Throwable) {
                made?.close()
                throw error
            }
        }

        /** Compiles a model after its hashes were verified, because a damaged one can crash LiteRT. */
        private fun opened(file: ByteArray, compile: () -> CompiledModel): KerasSeq {
            val bundle = ModelBundle.read(file)
            val signatures = bundle.signatures(file)
            val compiled = try {
                compile()
            } catch (error: LiteRtException) {
                throw RuntimeFailure("LiteRT cannot load the model: ${error.message}", error)
            }
            val runner = LiteRTRunner(compiled, signatures)
            try {
                return KerasSeq(TextModel(bundle, signatures, runner), runner)
            } catch (error: Throwable) { // of any kind, because nobody else can free the model
                runner.close()
                throw error
            }
        }

        private fun options() = CompiledModel.Options(Accelerator.CPU).apply {
            // Packs each matrix once for all signatures instead of once for each.
            cpuOptions = CompiledModel.CpuOptions(numThreads = 1, xnnPackWeightCachePath = ":memory")
        }
    }

    /**
     * Returns a continuation of a prompt, piece by piece. The text is written while it is collected, outside of the main thread;
     * cancel the collecting coroutine to stop it.
     *
     * @throws KerasSeqException while it is collected: an option is out of range, the prompt has characters that the model does
     *     not know, or the model's logits are not finite.
     */
    fun write(prompt: String, options: Options = Options()): Flow<String> = flow {
        for (piece in model.write(prompt, options)) emit(piece.text)
    }.flowOn(Dispatchers.Default)

    /**
     * Returns what writes a continuation of a prompt: it also tells the seed and why the text has ended, and its settings can be
     * changed between two pieces. Use it outside of the main thread.
     */
    fun writer(prompt: String, options: Options = Options()): Writer = model.write(prompt, options)

    /** Returns up to `count` words that may come next, or that complete the word which ends the text, the likeliest first. */
    suspend fun suggest(text: String, count: Int = 3): List<Suggestion> = withContext(Dispatchers.Default) {
        model.suggest(text, count)
    }

    /** Returns the log-probability in nats of each token of a text. */
    suspend fun score(text: String): Score = withContext(Dispatchers.Default) { model.score(text) }

    /** Frees the memory of the model; waits for the call of LiteRT that runs. */
    override fun close() = runner.close()
}

/** Runs the signatures of a compiled model, one call at a time. */
internal class LiteRTRunner(
    private val compiled: CompiledModel, private val signatures: Map<String, Signature>,
) : Runner, AutoCloseable {
    private class Buffers(val inputs: Map<String, TensorBuffer>, val outputs: Map<String, TensorBuffer>)

    private val buffers = HashMap<String, Buffers>()
    private var isClosed = false

    override fun run(signature: String, inputs: Map<String, Any>): Map<String, Any> = synchronized(this) {
        demand(!isClosed) { "the model was closed" }
        try {
            val given = buffers.getOrPut(signature) { buffersOf(signature) }
            for ((name, value) in inputs) {
                val buffer = given.inputs.getValue(name)
                if (value is IntArray) buffer.writeInt(value) else buffer.writeFloat(value as FloatArray)
            }
            compiled.run(given.inputs, given.outputs, signature)
            signatures.getValue(signature).outputs.mapValues { (name, tensor) ->
                val buffer = given.outputs.getValue(name)
                if (tensor.isFloat) buffer.readFloat() else buffer.readInt()
            }
        } catch (error: LiteRtException) {
            throw RuntimeFailure("LiteRT cannot run $signature: ${error.message}", error)
        }
    }

    private fun buffersOf(name: String): Buffers {
        val signature = signatures.getValue(name)
        val made = ArrayList<TensorBuffer>()
        try {
            return Buffers(
                signature.inputs.keys.associateWith { compiled.createInputBuffer(it, name).also { one -> made.add(one) } },
                signature.outputs.keys.associateWith { compiled.createOutputBuffer(it, name).also { one -> made.add(one) } },
            )
        } catch (error: Throwable) {
            made.forEach(TensorBuffer::close)
            throw error
        }
    }

    override fun close() = synchronized(this) {
        if (!isClosed) {
            isClosed = true
            for (one in buffers.values) (one.inputs.values + one.outputs.values).forEach(TensorBuffer::close)
            compiled.close()
        }
    }
}
