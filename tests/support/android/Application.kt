package android.app

import android.content.Context
import android.content.res.AssetManager

class Application(override val assets: AssetManager) : Context()
