// The parts of LiteRT's Kotlin API that export/android calls, with the signatures of its published sources (2.3, in
// litert/kotlin/src/main/kotlin/com/google/ai/edge/litert). The calls go to the test, which runs the model in LiteRT.
package com.google.ai.edge.litert

import android.content.res.AssetManager
import java.io.File

enum class Accelerator(val value: Int) { NONE(0), CPU(1), GPU(2), NPU(3) }

class LiteRtException(message: String) : Exception(message)

abstract class JniHandle : AutoCloseable {
    private var destroyed = false

    init {
        open.add(this)
    }

    protected fun assertNotDestroyed() = check(!destroyed) { "The handle has been destroyed." }

    final override fun close() {
        check(!destroyed) { "closed twice" } // stricter than LiteRT
        destroyed = true
        open.remove(this)
    }

    companion object {
        /** What was not closed yet. */
        val open = mutableSetOf<JniHandle>()
    }
}

class TensorBuffer internal constructor() : JniHandle() {
    internal var value: Any? = null

    fun writeInt(data: IntArray) {
        assertNotDestroyed()
        value = data.copyOf()
    }

    fun writeFloat(data: FloatArray) {
        assertNotDestroyed()
        value = data.copyOf()
    }

    fun readInt(): IntArray {
        assertNotDestroyed()
        return value as IntArray
    }

    fun readFloat(): FloatArray {
        assertNotDestroyed()
        return value as FloatArray
    }
}

class CompiledModel private constructor(val path: File, val options: Options) : JniHandle() {
    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    class Options(val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        var cpuOptions: CpuOptions? = null

        companion object {
            @JvmStatic val CPU = Options(Accelerator.CPU)
        }
    }

    fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer {
        assertNotDestroyed()
        check(inputName.isNotEmpty() && signature.isNotEmpty())
        return newBuffer()
    }

    fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer {
        assertNotDestroyed()
        check(outputName.isNotEmpty() && signature.isNotEmpty())
        return newBuffer()
    }

    private fun newBuffer(): TensorBuffer {
        buffersToMake = buffersToMake?.minus(1)
        if (buffersToMake == -1) throw LiteRtException("the test says that there is no memory")
        return TensorBuffer()
    }

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String = "") {
        assertNotDestroyed()
        val found = run(signature, inputs.mapValues { it.value.value!! })
        check(found.keys == outputs.keys) { "the outputs of $signature" }
        for ((name, value) in found) outputs.getValue(name).value = value
    }

    companion object {
        /** Runs a signature; set by the test. */
        lateinit var run: (String, Map<String, Any>) -> Map<String, Any>

        /** How many buffers can be made until one fails; null: any number. */
        var buffersToMake: Int? = null

        @JvmStatic
        @JvmOverloads
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options = Options.CPU,
            optionalEnv: Any? = null,
        ): CompiledModel = create(File(assetManager.folder, assetName).path, options, optionalEnv)

        @JvmStatic
        @JvmOverloads
        fun create(filePath: String, options: Options = Options.CPU, optionalEnv: Any? = null): CompiledModel {
            check(optionalEnv == null)
            return CompiledModel(File(filePath), options)
        }
    }
}
