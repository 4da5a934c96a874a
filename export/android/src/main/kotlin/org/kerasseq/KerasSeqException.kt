package org.kerasseq

/** A file, a text or an option that cannot be used; the message says what is expected, and what was received. */
open class KerasSeqException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** LiteRT could not run the model. */
class RuntimeFailure(message: String, cause: Throwable? = null) : KerasSeqException(message, cause)

/** Throws a [KerasSeqException] unless a condition holds. */
internal inline fun demand(holds: Boolean, message: () -> String) {
    if (!holds) throw KerasSeqException(message())
}
