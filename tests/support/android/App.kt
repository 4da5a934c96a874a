// The parts of Android that the app in export/android/README.md calls.
package androidx.activity

import android.content.Context
import android.os.Bundle
import android.widget.TextView
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job

abstract class ComponentActivity : Context() {
    override val assets get() = folder!!
    val scope = CoroutineScope(Job() + Dispatchers.Default)
    var view: TextView? = null

    open fun onCreate(savedInstanceState: Bundle?) {}

    fun setContentView(view: TextView) {
        this.view = view
    }

    companion object {
        /** The assets of the app; set by the test. */
        var folder: android.content.res.AssetManager? = null
    }
}
