"""The C library and its program, built once for the whole session with the Makefile."""

import shutil
import subprocess
import sys
from pathlib import Path

import paths
import pytest
from devices import need, need_program
from native_library import WITHOUT_LITERT, load_library

NATIVE = paths.REPOSITORY / "export" / "native"


@pytest.fixture(scope="session")
def native_sources():
    """`native_sources(folder)` copies the sources to a folder, so that nothing is built in the repository."""
    need_program("cc", "gcc")
    need_program("make", "make")
    need(Path("/usr/include/zlib.h").is_file(), "needs zlib: apt-get install zlib1g-dev")

    def copy(folder):
        return Path(shutil.copytree(NATIVE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.o", "*.so")))

    return copy


@pytest.fixture(scope="session")
def build(native_sources, made_once):
    """A folder with the program and the libraries."""

    def make(folder):
        native_sources(folder)
        subprocess.run(["make", "-s", "CFLAGS=-O2 -Werror", f"PYTHON={sys.executable}"], cwd=folder, check=True)
        return folder

    return made_once("native", make)


@pytest.fixture(scope="session")
def program(build):
    return build / "keras_seq"


@pytest.fixture(scope="session")
def library(build):
    return load_library(build / "libkeras_seq.so")


@pytest.fixture(scope="session")
def parts(made_once):
    """The readers of files, the tokenizer and the random stream in a program, with the sanitizers."""
    need_program("cc", "gcc")

    def make(folder):
        flags = ["-g", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{NATIVE}"]
        sources = [paths.SUPPORT / "native_parts.c", *(NATIVE / f"{name}.c" for name in WITHOUT_LITERT)]
        subprocess.run(["cc", *flags, *sources, "-o", folder / "native_parts", "-lz"], check=True)
        return folder / "native_parts"

    return made_once("native_parts", make)
