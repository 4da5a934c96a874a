// The parts of Android that export/android calls, so that it can be compiled and run here. Assets are files in a folder.
package android.content

import android.content.res.AssetManager

abstract class Context {
    abstract val assets: AssetManager
}
