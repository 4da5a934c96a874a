package org.kerasseq

/** Stop strings: the text ends before the first of them, wherever tokens begin and end. */
internal object StopStrings {
    /** Returns the position at which the first stop string in `text` begins, or -1. */
    fun find(text: String, stops: List<String>): Int {
        var first = -1
        for (stop in stops) {
            val position = text.indexOf(stop)
            if (position >= 0 && (first < 0 || position < first)) first = position
        }
        return first
    }

    /** Returns the length of the longest end of `text` that may be the beginning of a stop string. */
    fun unfinished(text: String, stops: List<String>): Int {
        var longest = 0
        for (stop in stops) {
            for (length in 1 until stop.length) {
                if (length > longest && text.endsWith(stop.substring(0, length))) longest = length
            }
        }
        return longest
    }
}
