package org.kerasseq

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** An input or an output of a signature. */
internal data class TensorShape(val isFloat: Boolean, val shape: List<Int>)

/** The inputs and outputs of a signature by their names. */
internal class Signature(val inputs: Map<String, TensorShape>, val outputs: Map<String, TensorShape>) {
    /** The names of the states, in their order. */
    val states: List<String> get() = states(inputs)

    companion object {
        fun states(tensors: Map<String, TensorShape>): List<String> =
            tensors.keys.filter { it.startsWith("state_") }.sortedBy { it.removePrefix("state_").toIntOrNull() ?: -1 }
    }
}

/** Reads the signatures of a model from its flatbuffer, because LiteRT's Kotlin API does not list them. */
internal class Signatures private constructor(model: ByteArray, size: Int) {
    private val bytes = ByteBuffer.wrap(model, 0, size).slice().order(ByteOrder.LITTLE_ENDIAN)

    companion object {
        private const val MOST = 256 // entries of a list
        private const val FLOAT32 = 0
        private const val INT32 = 2

        /** Returns the signatures of the model in the first `size` bytes. */
        fun read(model: ByteArray, size: Int): Map<String, Signature> = try {
            Signatures(model, size).all()
        } catch (error: IndexOutOfBoundsException) {
            throw KerasSeqException("the model is damaged: its signatures cannot be read", error)
        }
    }

    /** Returns the position of a field of a table; 0 if the table does not have it. */
    private fun field(table: Int, number: Int): Int {
        val layout = table - bytes.getInt(table)
        val entry = 4 + 2 * number
        val offset = if (entry < bytes.getShort(layout).toInt() and 0xFFFF) bytes.getShort(layout + entry).toInt() and 0xFFFF else 0
        return if (offset == 0) 0 else table + offset
    }

    /** Returns what a field points to; 0 if the table does not have it. */
    private fun target(table: Int, number: Int): Int {
        val position = field(table, number)
        return if (position == 0) 0 else position + bytes.getInt(position)
    }

    private fun integer(table: Int, number: Int): Int = field(table, number).let { if (it == 0) 0 else bytes.getInt(it) }

    private fun count(list: Int): Int {
        val count = if (list == 0) 0 else bytes.getInt(list)
        demand(count in 0..MOST) { "the model is damaged: it has a list of $count signatures, inputs or outputs" }
        return count
    }

    /** Returns the positions of the tables in a list. */
    private fun tables(table: Int, number: Int): List<Int> {
        val list = target(table, number)
        return List(count(list)) { element(list, it) }
    }

    private fun element(list: Int, index: Int): Int = (list + 4 + 4 * index).let { it + bytes.getInt(it) }

    private fun string(table: Int, number: Int): String {
        val position = target(table, number)
        return String(CharArray(count(position)) { (bytes.get(position + 4 + it).toInt() and 0xFF).toChar() })
    }

    private fun all(): Map<String, Signature> {
        val root = bytes.getInt(0)
        return tables(root, 7).associate { string(it, 2) to signature(it, target(root, 2)) }
    }

    private fun signature(table: Int, graphs: Int): Signature {
        val graph = integer(table, 4)
        demand(graphs != 0 && graph in 0 until bytes.getInt(graphs)) { "the model is damaged: a signature has no graph" }
        val tensors = target(element(graphs, graph), 0)
        return Signature(named(table, 0, tensors), named(table, 1, tensors))
    }

    private fun named(table: Int, number: Int, tensors: Int): Map<String, TensorShape> =
        tables(table, number).associate { string(it, 0) to tensor(tensors, integer(it, 1)) }

    private fun tensor(tensors: Int, index: Int): TensorShape {
        demand(tensors != 0 && index in 0 until bytes.getInt(tensors)) { "the model is damaged: a signature has no tensor" }
        val table = element(tensors, index)
        val list = target(table, 0)
        val type = field(table, 1).let { if (it == 0) FLOAT32 else bytes.get(it).toInt() }
        demand(type == FLOAT32 || type == INT32) { "the model is damaged: a signature takes other numbers than float32 and int32" }
        return TensorShape(type == FLOAT32, List(count(list)) { bytes.getInt(list + 4 + 4 * it) })
    }
}
