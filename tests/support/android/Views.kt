package android.widget

import android.content.Context

class TextView(val context: Context) {
    val text = StringBuilder()
    fun append(more: CharSequence) {
        text.append(more)
    }
}
