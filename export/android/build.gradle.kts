plugins {
    id("com.android.library") version "8.13.2"
    id("org.jetbrains.kotlin.android") version "2.3.21" // LiteRT's classes have the metadata of Kotlin 2.3
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
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    api("org.jetbrains.kotlinx:kotlinx-coroutines-android:1.10.2") // `write` returns a Flow
}
