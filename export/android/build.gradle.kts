// With AGP 9, which has Kotlin built in. README.md says what to add with AGP 8. Versions are those of the root project.
plugins {
    id("com.android.library")
}

group = "org.kerasseq"
version = "0.1.0" // that of keras_seq; a test compares them

android {
    namespace = "org.kerasseq"
    compileSdk = 36
    defaultConfig {
        minSdk = 23 // as LiteRT
        consumerProguardFiles("consumer-rules.pro")
    }
    compileOptions { // AGP 9 compiles Kotlin for the same version
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    api("org.jetbrains.kotlinx:kotlinx-coroutines-android:1.10.2") // `write` returns a Flow
}
