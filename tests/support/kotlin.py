"""Compiles Kotlin, with the compiler in the npm registry."""

import os
import shutil
import subprocess

import paths
from devices import need, need_program
from kit_process import write_code_blocks

ANDROID = paths.REPOSITORY / "export" / "android"
VERSION = "2.4.20"
_COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
_FAST_START = ["-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


def compiler_of(made_once):
    """Returns the folder with the jars of the compiler, of the standard library and of the coroutines."""
    need_program("java", "default-jre-headless")
    need_program("npm", "npm")

    def make(folder):
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"kotlin-compiler@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        need(done.returncode == 0, f"needs the Kotlin compiler from the npm registry: {done.stderr[-300:]}")
        return folder / "node_modules" / "kotlin-compiler" / "lib"

    return made_once("kotlin_compiler", make)


def compiled(sources, jar, compiler):
    """Compiles source files into a jar; warnings are errors."""
    libraries = [compiler / "kotlin-stdlib.jar", compiler / "kotlinx-coroutines-core-jvm.jar"]
    tools = [compiler / f"{name}.jar" for name in ("kotlin-compiler", "kotlin-script-runtime", "kotlin-reflect")]
    command = ["java", *_FAST_START, "-cp", _class_path([*tools, *libraries]), _COMPILER, "-no-stdlib", "-no-reflect"]
    command += ["-Werror", "-cp", _class_path(libraries), "-d", jar, *sources]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return jar


def server_command(made_once):
    """Compiles export/android with the program that answers its tests; returns the command that starts it."""
    compiler = compiler_of(made_once)
    sources = sorted((ANDROID / "src/main/kotlin/org/kerasseq").glob("*.kt"))
    sources += sorted((paths.SUPPORT / "android").glob("*.kt"))

    def make(folder):
        apps = write_code_blocks(ANDROID / "README.md", "import android", folder, ".kt")
        return compiled([*sources, *apps], folder / "server.jar", compiler)

    jar = made_once("kotlin_server", make)
    libraries = [compiler / "kotlin-stdlib.jar", compiler / "kotlinx-coroutines-core-jvm.jar"]
    return [shutil.which("java"), *_FAST_START, "-cp", _class_path([jar, *libraries]), "org.kerasseq.ServerKt"]


def _class_path(jars):
    return os.pathsep.join(map(str, jars))
