// Answers the tests of export/android: a JSON request per line on stdin, a JSON answer per line on stdout.
// To run a signature it asks the test: it writes {"run": ..., "inputs": ...} and reads the outputs.
package org.kerasseq

import android.app.Application
import android.content.Context
import android.content.res.AssetManager
import androidx.activity.ComponentActivity
import androidx.lifecycle.ViewModel
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.JniHandle
import com.google.ai.edge.litert.LiteRtException
import java.io.File
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking

private fun json(value: Any?): String = when (value) {
    null, is Boolean, is Int, is Long -> value.toString()
    is Float -> json(value.toDouble())
    is Double -> if (value.isInfinite()) (if (value > 0) "Infinity" else "-Infinity") else value.toString() // NaN too
    is String -> value.map { if (it in ' '..'~' && it != '"' && it != '\\') it.toString() else "\\u%04x".format(it.code) }
        .joinToString("", "\"", "\"")
    is IntArray -> json(value.asList())
    is FloatArray -> json(value.asList())
    is DoubleArray -> json(value.asList())
    is Iterable<*> -> value.joinToString(",", "[", "]", transform = ::json)
    is Map<*, *> -> value.entries.joinToString(",", "{", "}") { json(it.key) + ":" + json(it.value) }
    else -> throw IllegalArgumentException("no JSON for $value")
}

private fun say(value: Any?) {
    println(json(value))
    System.out.flush()
}

private fun hear(): Any? = Json.parse(readln())

@Suppress("UNCHECKED_CAST")
private class Request(values: Any?) {
    private val values = values as Map<String, Any?>
    fun <T> get(name: String): T = values[name] as T
    fun has(name: String): Boolean = values[name] != null
}

@Suppress("UNCHECKED_CAST")
private val asking = Runner { signature, inputs ->
    say(mapOf("run" to signature, "inputs" to inputs))
    val answer = hear() as? Map<String, List<Any?>> ?: throw RuntimeFailure("the test says that $signature failed")
    answer.mapValues { (_, one) ->
        val numbers = one.drop(1).map { if (it is String) it.toDouble() else it as Number } // "NaN" is not JSON
        if (one[0] == "int32") numbers.map { it.toInt() }.toIntArray() else numbers.map { it.toFloat() }.toFloatArray()
    }
}

private lateinit var model: TextModel

private fun bytes(hexadecimal: String) = hexadecimal.chunked(2).map { it.toInt(16).toByte() }.toByteArray()

private fun optionsOf(request: Request): Options {
    fun float(name: String) = if (request.has(name)) request.get<Number>(name).toFloat() else null
    return Options(
        if (request.has("max_tokens")) request.get<Long>("max_tokens").toInt() else 200, float("temperature"),
        if (request.has("top_k")) request.get<Long>("top_k").toInt() else null, float("top_p"), float("min_p"),
        request.get<Long>("seed"), if (request.has("stop")) request.get("stop") else emptyList(),
    )
}

private fun written(request: Request): Map<String, Any?> {
    val writer = model.write(request.get("prompt"), optionsOf(request))
    val pieces = ArrayList<Piece>()
    val changes = if (request.has("changes")) request.get<Map<String, Double>>("changes") else emptyMap()
    var failures = 0
    while (true) {
        changes[pieces.size.toString()]?.let { writer.settings = writer.settings.copy(temperature = it.toFloat()) }
        try {
            if (!writer.hasNext()) break
            pieces.add(writer.next())
        } catch (error: KerasSeqException) {
            if (failures++ == (if (request.has("again")) request.get<Long>("again").toInt() else 0)) throw error
        }
    }
    writer.settings = Settings(temperature = 0.125f) // after the end, which runs nothing
    return mapOf(
        "text" to pieces.joinToString("") { it.text }, "pieces" to pieces.map { it.text }, "tokens" to pieces.map { it.token },
        "log_probabilities" to pieces.map { it.logProbability }, "finish_reason" to writer.finishReason,
    )
}

/** Opens a file as an asset, writes a text, and closes it: KerasSeq.kt, on the stand-in for LiteRT's Kotlin API. */
private fun onAndroid(request: Request): Map<String, Any?> = runBlocking {
    CompiledModel.run = { signature, inputs ->
        try {
            asking.run(signature, inputs)
        } catch (error: RuntimeFailure) {
            throw LiteRtException("the test says that it failed")
        }
    }
    val file = File(request.get<String>("path"))
    val context = object : Context() {
        override val assets = AssetManager(file.parentFile)
    }
    val opened = KerasSeq.open(context, file.name)
    val answer = opened.use { model ->
        mapOf(
            "pieces" to model.write(request.get("prompt"), optionsOf(request)).toList(),
            "suggestions" to model.suggest(request.get("prompt")).map { it.insert },
            "score" to model.score(request.get("prompt")).logProbabilities,
            "card" to model.card,
        )
    }
    val afterwards = try {
        opened.suggest("")
        ""
    } catch (error: KerasSeqException) {
        error.message
    }
    answer + mapOf("afterwards" to afterwards, "open" to JniHandle.open.size)
}

/**
 * Returns how many of LiteRT's objects are open after a buffer could not be made, after an error that is not LiteRT's, and
 * after the caller was cancelled while the file was opened.
 */
private fun leftAfterFailures(file: File): List<Int> = runBlocking {
    suspend fun leftAfter(use: suspend (KerasSeq) -> Unit): Int {
        try {
            KerasSeq.open(file).use { use(it) }
        } catch (error: Exception) {
            return JniHandle.open.size
        }
        throw IllegalStateException("nothing failed")
    }
    CompiledModel.run = { signature, inputs -> asking.run(signature, inputs) }
    val first = leftAfter {
        CompiledModel.buffersToMake = 2
        it.suggest("")
    }
    CompiledModel.buffersToMake = null
    CompiledModel.run = { _, _ -> throw IllegalStateException("not an error of LiteRT") }
    val second = leftAfter {}
    lateinit var opening: Job
    CompiledModel.run = { signature, inputs ->
        opening.cancel()
        asking.run(signature, inputs)
    }
    opening = launch { KerasSeq.open(file) }
    opening.join()
    listOf(first, second, JniHandle.open.size)
}

/** Runs the app of the README; returns the text that it shows, and how many of LiteRT's objects are open at its end. */
private fun onAndroidApp(request: Request): List<Any> = runBlocking {
    CompiledModel.run = { signature, inputs -> asking.run(signature, inputs) }
    ComponentActivity.application = Application(AssetManager(File(request.get<String>("folder"))))
    val activity = Class.forName("MainActivity").getDeclaredConstructor().newInstance() as ComponentActivity
    activity.onCreate(null)
    activity.scope.coroutineContext[Job]!!.children.forEach { it.join() }
    ComponentActivity.models.forEach(ViewModel::clear)
    listOf(activity.view!!.text.toString(), JniHandle.open.size)
}

private fun answer(request: Request): Any? = when (val task = request.get<String>("task")) {
    "random" -> request.get<List<List<Any>>>("pairs").map { (seed, position) ->
        val number = (seed as String).toBigInteger().toLong()
        listOf("%08x".format(Threefry.word(number, (position as Long).toInt())), Threefry.uniform(number, position.toInt()))
    }
    "words" -> request.get<List<String>>("texts").map { Tokens.split(it, Level.WORD) }
    "classes" -> (0 until request.get<Long>("count").toInt()).map { Tokens.classOf(it).ordinal }
    "encode" -> {
        val vocabulary = Vocabulary.parse(bytes(request.get("file")))
        request.get<List<String>>("texts").map { text ->
            try {
                val ids = vocabulary.encode(text)
                listOf(ids, vocabulary.decode(ids), vocabulary.level.name.lowercase())
            } catch (error: KerasSeqException) {
                error.message
            }
        }
    }
    "decode" -> {
        val vocabulary = Vocabulary.parse(bytes(request.get("file")))
        request.get<List<List<Any>>>("continuations").map { (before, ids) ->
            vocabulary.decode((ids as List<*>).map { (it as Long).toInt() }.toIntArray(), before as String)
        }
    }
    "bundle" -> request.get<List<String>>("paths").map { path ->
        try {
            ModelBundle.read(File(path).readBytes()).vocabulary?.size ?: 0
        } catch (error: KerasSeqException) {
            error.message
        }
    }
    "open" -> {
        val file = File(request.get<String>("path")).readBytes()
        val bundle = ModelBundle.read(file)
        model = TextModel(bundle, bundle.signatures(file), asking)
        mapOf("size" to model.vocabulary.size, "writes" to model.writes)
    }
    "write" -> written(request)
    "suggest" -> model.suggest(request.get("text"), request.get<Long>("count").toInt())
        .map { listOf(it.text, it.insert, it.probability) }
    "score" -> model.score(request.get("text")).let { listOf(it.tokens, it.logProbabilities) }
    "app" -> onAndroidApp(request)
    "android" -> onAndroid(request)
    "failures" -> leftAfterFailures(File(request.get<String>("path")))
    else -> throw IllegalArgumentException(task)
}

fun main() {
    while (true) {
        val line = readlnOrNull() ?: return
        try {
            say(mapOf("answer" to answer(Request(Json.parse(line)))))
        } catch (error: KerasSeqException) {
            say(mapOf("error" to error.message))
        }
    }
}
