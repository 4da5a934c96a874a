package androidx.lifecycle

import android.app.Application
import androidx.activity.ComponentActivity
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel

val ComponentActivity.lifecycleScope: CoroutineScope get() = scope

abstract class ViewModel {
    internal val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)

    protected open fun onCleared() {}

    fun clear() {
        scope.cancel()
        onCleared()
    }
}

abstract class AndroidViewModel(application: Application) : ViewModel()

val ViewModel.viewModelScope: CoroutineScope get() = scope
