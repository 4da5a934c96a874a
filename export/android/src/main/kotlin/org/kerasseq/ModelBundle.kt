package org.kerasseq

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater

/**
 * What is in the zip at the end of a .tflite: vocab.txt, config.json and card.json.
 *
 * Android's zip readers refuse this zip, because the file begins with the model. Each reader of such files, in any language,
 * follows the same strict rules (docs/formats.md), so all accept the same files.
 */
internal class ModelBundle private constructor(
    val vocabulary: Vocabulary?, // null in a model that is not of text
    val config: Map<String, Any?>,
    val card: Map<String, Any?>,
    val modelBytes: Int, // the first bytes of the file, the model without the zip
) {
    /** Returns the signatures of the model in the file. LiteRT's API for Kotlin has no tensors of 16-bit integers. */
    fun signatures(file: ByteArray): Map<String, Signature> {
        demand(config["quantization"] != "integer") {
            "the file has integers only, for export/native/micro and TensorFlow Lite for Microcontrollers: export it with " +
                "--quantization=int8"
        }
        return Signatures.read(file, modelBytes)
    }

    companion object {
        private const val FORMAT = 2L
        private const val MOST_TOKENS = 1 shl 19
        private const val SMALLEST_MODEL = 12 // bytes
        private val LARGEST = mapOf("vocab.txt" to (16 shl 20), "config.json" to (1 shl 20), "card.json" to (1 shl 20))

        /** Returns the bundle of a file; verifies all hashes. Nothing in the file is run. */
        fun read(file: ByteArray): ModelBundle {
            demand(file.size >= 8 && String(file, 4, 4, Charsets.ISO_8859_1) == "TFL3") {
                "a model's file must be a .tflite: it must have TFL3 at byte 4"
            }
            val zip = Zip(file)
            val parts = LARGEST.mapValues { (name, most) -> zip.read(name, most) }
            val words = parts.getValue("vocab.txt")
            demand(words == null || words.count { it == '\n'.code.toByte() } <= MOST_TOKENS) {
                "vocab.txt must have at most $MOST_TOKENS tokens"
            }
            val vocabulary = words?.let(Vocabulary::parse)
            val config = record("config.json", parts.getValue("config.json"))
            val card = record("card.json", parts.getValue("card.json") ?: "{}".toByteArray())
            requireConfig(config)
            val bundle = ModelBundle(vocabulary, config, card, modelBytes(file, zip, config))
            demand(config["model_sha256"] == sha256(file, bundle.modelBytes)) {
                "the model is damaged: its SHA-256 differs; export it again"
            }
            demand(config["vocabulary_sha256"] == words?.let { sha256(it, it.size) }) {
                "the vocabulary is another than that of the model: its SHA-256 differs"
            }
            return bundle
        }

        @Suppress("UNCHECKED_CAST")
        private fun record(name: String, content: ByteArray?): Map<String, Any?> {
            demand(content != null) { "the file has no $name inside: export it again with keras-seq export" }
            val value = try {
                Json.parse(Vocabulary.utf8(content!!, name))
            } catch (error: KerasSeqException) {
                throw KerasSeqException("$name: ${error.message}", error)
            }
            demand(value is Map<*, *>) { "$name must be a JSON object" }
            return value as Map<String, Any?>
        }

        private fun requireConfig(config: Map<String, Any?>) {
            demand(config["format"] == FORMAT) {
                "the file must have the bundle format $FORMAT: export it again, or update this library"
            }
            for ((name, isValid) in VALUES) {
                demand(isValid(config[name])) {
                    "the file has a damaged config.json: `$name` is missing or wrong"
                }
            }
        }

        private fun modelBytes(file: ByteArray, zip: Zip, config: Map<String, Any?>): Int {
            val size = (config["model_bytes"] as Long).toInt()
            val isRight = size >= SMALLEST_MODEL && size == zip.start
            val root = if (isRight) ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getInt(0).toLong() and 0xFFFFFFFF else 0
            demand(isRight && root in 8..size - 4L) { "the file has a damaged bundle: `model_bytes` is not where the model ends" }
            return size
        }

        private fun sha256(content: ByteArray, size: Int): String {
            val digest = MessageDigest.getInstance("SHA-256").apply { update(content, 0, size) }.digest()
            return digest.joinToString("") { ((it.toInt() and 0xFF) or 0x100).toString(16).drop(1) }
        }

        private fun isCount(value: Any?): Boolean = value is Long && value in 1..Int.MAX_VALUE

        private val VALUES = mapOf<String, (Any?) -> Boolean>(
            "model_bytes" to ::isCount,
            "batch" to ::isCount,
            "state" to { it == "explicit" || it == "internal" },
            "sampling" to { it is Map<*, *> },
        )
    }
}

/** The zip at the end of a file; its entries, checked. */
internal class Zip(private val file: ByteArray) {
    private class Entry(val name: String, val method: Int, val sum: Long, val packed: Long, val size: Long, val offset: Long)

    private val bytes = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN)
    private val directory: Long // its offset
    private val entries = LinkedHashMap<String, Entry>()

    /** The offset of the first entry, where the model ends; -1 if there is none. */
    val start: Int get() = entries.values.minOfOrNull { it.offset }?.toInt() ?: -1

    init {
        val end = file.size - END
        requireComplete(end >= 0 && int(end) == 0x06054B50L && int(end + 4) == 0L && short(end + 20) == 0)
        val count = short(end + 8)
        val length = int(end + 12)
        directory = int(end + 16)
        requireComplete(short(end + 10) == count && length <= LARGEST_DIRECTORY && directory + length == end.toLong())
        var position = directory.toInt()
        repeat(count) { position = readEntry(position, end) }
        requireComplete(position == end)
    }

    private fun requireComplete(holds: Boolean) = demand(holds) {
        "the file has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export"
    }

    private fun short(position: Int): Int = bytes.getShort(position).toInt() and 0xFFFF

    private fun int(position: Int): Long = bytes.getInt(position).toLong() and 0xFFFFFFFF

    /** Reads the entry of the directory at a position; returns the position of the next. */
    private fun readEntry(position: Int, end: Int): Int {
        requireComplete(position + ENTRY <= end && int(position) == 0x02014B50L)
        val nameSize = short(position + 28)
        val next = position + ENTRY + nameSize + short(position + 30) + short(position + 32)
        requireComplete(next <= end && short(position + 8) == 0)
        val name = String(file, position + ENTRY, nameSize, Charsets.ISO_8859_1) // as bytes
        val entry = Entry(
            name, short(position + 10), int(position + 16), int(position + 20), int(position + 24), int(position + 42),
        )
        requireComplete(entry.method == STORED || entry.method == DEFLATED)
        requireLocalHeader(entry, position, nameSize)
        requireComplete(entries.put(name, entry) == null)
        return next
    }

    /** Requires the entry at its offset to say the same as the directory, and its bytes to end before the directory. */
    private fun requireLocalHeader(entry: Entry, position: Int, nameSize: Int) {
        requireComplete(entry.offset + HEADER + nameSize + entry.packed <= directory)
        val header = entry.offset.toInt()
        requireComplete(int(header) == 0x04034B50L && short(header + 28) == 0)
        requireComplete((4..27).all { file[header + it] == file[position + 2 + it] })
        requireComplete((0 until nameSize).all { file[header + HEADER + it] == file[position + ENTRY + it] })
    }

    /** Returns the content of an entry; null if there is none with this name. */
    fun read(name: String, most: Int): ByteArray? {
        val entry = entries[name] ?: return null
        demand(entry.size <= most) { "$name must have at most $most bytes. Received: ${entry.size}" }
        val content = ByteArray(entry.size.toInt())
        val first = entry.offset.toInt() + HEADER + name.length
        if (entry.method == STORED) {
            requireComplete(entry.packed == entry.size)
            file.copyInto(content, 0, first, first + content.size)
        } else {
            inflate(first, entry.packed.toInt(), content)
        }
        requireComplete(CRC32().apply { update(content) }.value == entry.sum)
        return content
    }

    private fun inflate(first: Int, packed: Int, content: ByteArray) {
        val inflater = Inflater(true) // without the header of zlib
        try {
            inflater.setInput(file, first, packed)
            var filled = 0
            val whole = ByteArray(content.size + 1) // so that more than the stated size is seen
            while (!inflater.finished() && filled < whole.size) {
                val count = inflater.inflate(whole, filled, whole.size - filled)
                requireComplete(count > 0 || inflater.finished())
                filled += count
            }
            requireComplete(inflater.finished() && inflater.remaining == 0 && filled == content.size)
            whole.copyInto(content, 0, 0, filled)
        } catch (error: DataFormatException) {
            requireComplete(false)
        } finally {
            inflater.end()
        }
    }

    private companion object {
        const val END = 22 // bytes of the last record
        const val ENTRY = 46 // of an entry of the directory, without its name
        const val HEADER = 30 // of a local header, without its name
        const val LARGEST_DIRECTORY = 1L shl 16
        const val STORED = 0
        const val DEFLATED = 8
    }
}
