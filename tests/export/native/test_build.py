"""The C library in an app: the ten lines of its README with pkg-config and with CMake, C++, and the checks of tools."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import paths
import pytest
from bundles import rebundled
from devices import need, need_program
from hamlet import TEXT
from learned_files import learned_file
from native_library import WITHOUT_LITERT

from keras_seq_export.tflite.bundle import read_bundle

NATIVE = paths.REPOSITORY / "export" / "native"
LITERT = Path(importlib.util.find_spec("ai_edge_litert").submodule_search_locations[0])
SHARED = [NATIVE / "micro" / f"{name}.c" for name in ("threefry", "tokens", "words")]  # with the decoder in micro/
LIBRARY = sorted({*NATIVE.glob("*.c"), *SHARED} - {NATIVE / "program.c"})


LEARNING_APP = """#include <unistd.h>
#include <keras_seq.h>
#include <stdio.h>
int main(int count, char **arguments) {
  ks_model *model;
  ks_error error;
  const char *text = arguments[count - 1];
  if (ks_open(arguments[1], &model, &error)) return 1;
  LINES
  return ks_close(model);
}
"""


@pytest.fixture(scope="module")
def app():
    """The program that the README prints."""
    return re.search(r"```c\n(.*?)```", (NATIVE / "README.md").read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def model(small_tflite):
    return small_tflite()


def require_text(program, model):
    """Requires an app to continue a prompt, and to refuse one in a sentence."""
    command = [program, model, "To be"]
    texts = [subprocess.run(command, capture_output=True, check=True).stdout.decode() for _ in range(5)]
    assert any(texts)  # Each has another seed; four in a thousand are empty.
    assert set("".join(texts)) <= set(TEXT)
    answer = subprocess.run([program, model, "Ω"], capture_output=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert "prompt must hold only characters of the vocabulary. Received: 'Ω' (U+03A9)\n" in answer.stderr.decode()


@pytest.fixture
def as_printed(build, app, tmp_path):
    """`as_printed(number, words)` runs lines of one of the README's shell blocks: those that begin with one of `words`.

    `make` finds what was built. The home and the active Python are the test's.
    """
    folder = shutil.copytree(build, tmp_path / "sources")
    (folder / "app.c").write_text(app)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PATH": path}
    blocks = re.findall(r"```sh\n(.*?)```", (NATIVE / "README.md").read_text(), re.DOTALL)

    def run(number, *words):
        lines = [line for line in blocks[number].splitlines() if line.startswith(words)]
        assert len(lines) == len(words)
        # The compiler is told to be strict.
        strict = 'cc() { command cc -Wall -Wextra -Werror "$@"; }'
        subprocess.run(["bash", "-ec", "\n".join([strict, *lines])], cwd=folder, env=environment, check=True)
        return folder / "app"

    return run


def test_the_commands_of_the_readme_make_an_app(as_printed, model, tmp_path):
    need_program("pkg-config", "pkg-config")
    require_text(as_printed(0, "make", "export", "cc"), model)
    (tmp_path / "home/.local/lib/libkeras_seq.so").unlink()  # The app to ship has the library inside.
    app = as_printed(1, "cp", "cc")
    moved = tmp_path / "shipped"
    moved.mkdir()
    for path in (app, app.parent / "libLiteRt.so"):
        path.rename(moved / path.name)
    require_text(moved / "app", model)
    assert str(LITERT).encode() not in (moved / "app").read_bytes()


def test_the_app_of_the_readme_runs_with_cmake(native_sources, as_printed, app, model, tmp_path):
    """As a part of the app's project, and installed."""
    need_program("cmake", "cmake")
    native_sources(tmp_path / "native")
    (tmp_path / "app.c").write_text(app)
    added = re.search(r"```cmake\n(.*?)```", (NATIVE / "README.md").read_text(), re.DOTALL)[1]
    first, second = added.splitlines()
    lines = ["cmake_minimum_required(VERSION 3.18)", "project(app C)", first, "add_executable(app app.c)", second]
    (tmp_path / "CMakeLists.txt").write_text("\n".join(lines))
    home = tmp_path / "home/.local"
    configure = ["cmake", "-B", "build", "-DKERAS_SEQ_INSTALL=ON", f"-DCMAKE_INSTALL_PREFIX={home}"]
    refused = subprocess.run(configure, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "pip install ai-edge-litert" in refused.stderr
    configure += [f"-DLITERT={LITERT}", "-DCMAKE_INSTALL_LIBDIR=lib"]
    for command in (configure, ["cmake", "--build", "build"], ["cmake", "--install", "build"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    require_text(tmp_path / "build" / "app", model)
    found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert found == {"bin/keras_seq", "include/keras_seq.h", "lib/libkeras_seq.a", "lib/pkgconfig/keras_seq.pc"}
    require_text(as_printed(0, "export", "cc"), model)
    answer = subprocess.run([home / "bin/keras_seq", model, "--prompt=To be"], capture_output=True, check=True)
    assert answer.stdout.startswith(b"To be")


def test_what_the_readme_prints_of_learning_learns(build, small_tflite, tmp_path):
    need_program("cc", "gcc")
    _, lines = re.findall(r"```c\n(.*?)```", (NATIVE / "README.md").read_text(), re.DOTALL)
    (tmp_path / "app.c").write_text(LEARNING_APP.replace("LINES", lines))
    libraries = [build / "libkeras_seq.a", f"-L{LITERT}", "-lLiteRt", f"-Wl,-rpath,{LITERT}", "-lz", "-lm"]
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
    subprocess.run(["cc", *flags, tmp_path / "app.c", "-o", tmp_path / "app", *libraries], check=True)
    command = [tmp_path / "app", small_tflite(learn=True), "to be "]
    first, second = (subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout for _ in range(2))
    assert b" nats per token instead of " in first
    assert first != second  # It has learned, and the program that was started again knew that.


def test_the_header_is_cpp_too(tmp_path):
    need_program("c++", "g++")
    (tmp_path / "a.cpp").write_text('#include "keras_seq.h"\nint main() { return ks_close(nullptr); }\n')
    flags = ["-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", f"-I{NATIVE}"]
    subprocess.run(["c++", *flags, tmp_path / "a.cpp"], check=True)


def test_cmake_builds_the_files_that_make_builds():
    listed = re.search(r"add_library\(keras_seq (.*?)\)", (NATIVE / "CMakeLists.txt").read_text(), re.DOTALL)[1].split()
    objects = re.search(r"OBJECTS = ((?:.*\\\n)*.*)", (NATIVE / "Makefile").read_text())[1].replace("\\", "").split()
    library = [str(path.relative_to(NATIVE)) for path in LIBRARY]
    assert sorted(listed) == library == [name.replace(".o", ".c") for name in sorted(objects)]


def test_every_allocation_may_fail(tmp_path, small_tflite):
    """Under the address sanitizer, which also reports what was not freed."""
    need_program("cc", "gcc")
    wrapped = ["-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc", f"-L{LITERT}", "-lLiteRt", f"-Wl,-rpath,{LITERT}"]
    flags = ["-g", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{NATIVE}"]
    source = paths.SUPPORT / "native_allocations.c"
    subprocess.run(["cc", *flags, source, *LIBRARY, "-o", tmp_path / "a", *wrapped, "-lz", "-lm"], check=True)
    for level in ("char", "word"):
        command = [tmp_path / "a", tmp_path / "learned", small_tflite(level=level, learn=True)]
        answer = subprocess.run(command, capture_output=True, check=False)
        assert answer.returncode == 0, answer.stderr.decode()
        counts = dict(line.split() for line in answer.stdout.decode().splitlines())
        calls = {"open", "open_memory", "encode", "decode", "suggest", "score", "write", "learn", "suggest_own"}
        assert counts.keys() == calls | {"forget", "save_learned", "load_learned", "in_memory"}
        assert all(int(count) > 0 for count in counts.values())


def test_the_readers_survive_libfuzzer(model, tmp_path):
    """The seeds are a real bundle behind a model of 16 bytes, vocabularies with texts, and JSON."""
    need_program("clang", "clang")
    flags = ["-O1", "-g", "-D_GNU_SOURCE", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    source = paths.SUPPORT / "native_fuzz.c"
    made = subprocess.run(
        [
            "clang",
            *flags,
            f"-I{NATIVE}",
            source,
            *(NATIVE / f"{name}.c" for name in WITHOUT_LITERT),
            "-o",
            tmp_path / "fuzz",
            "-lz",
        ],
        capture_output=True,
        check=False,
    )
    need(
        made.returncode == 0,
        f"needs libFuzzer: apt-get install clang libclang-rt-14-dev: {made.stderr.decode()[-300:]}",
    )
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    header = (8).to_bytes(4, "little") + b"TFL3" + bytes(8)
    (seeds / "bundle").write_bytes(b"\0" + rebundled(model, tmp_path / "a.tflite", model=header).read_bytes())
    (seeds / "vocabulary").write_bytes(b"\1" + read_bundle(model).vocabulary.to_bytes() + b"\xffTo be, or not")
    (seeds / "words").write_bytes(b"\1<pad>\n<unk>\n<s>\n<eos>\nTo\n be\n\xffTo be don't \xc3\xa9")
    (seeds / "json").write_bytes(b'\2{"format": 2, "a": [1.5e3, -0, true, null, "\\u00e9"]}')
    (seeds / "learned").write_bytes(
        b"\3" + learned_file(rows=2, columns=3, words="3 to\n1 don't\n2 é\n\n1 0 1\n2 1 1\n".encode())
    )
    # Linux counts the memory of the process that starts a program as that program's; the shell's is small.
    shell = ["sh", "-c", '"$@"; exit $?', "sh"]
    command = [*shell, tmp_path / "fuzz", "-runs=20000", "-max_len=8192", seeds]
    answer = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr.decode()[-3000:]
    assert b"Done 20000 runs" in answer.stderr
