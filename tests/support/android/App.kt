// The parts of Android that the app in export/android/README.md calls.
package androidx.activity

import android.app.Application
import android.content.Context
import android.os.Bundle
import android.widget.TextView
import androidx.lifecycle.ViewModel
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job

abstract class ComponentActivity : Context() {
    override val assets get() = application.assets
    val scope = CoroutineScope(Job() + Dispatchers.Default)
    var view: TextView? = null

    open fun onCreate(savedInstanceState: Bundle?) {}

    fun setContentView(view: TextView) {
        this.view = view
    }

    companion object {
        /** The app; set by the test. */
        lateinit var application: Application

        /** The models of the activity; the test clears them. */
        val models = ArrayList<ViewModel>()
    }
}

inline fun <reified Model : ViewModel> ComponentActivity.viewModels(): Lazy<Model> = lazy {
    val made = Model::class.java.getDeclaredConstructor(Application::class.java).newInstance(ComponentActivity.application)
    made.also { ComponentActivity.models.add(it) }
}
