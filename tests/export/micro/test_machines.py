"""The C decoder on x86-64, on ARM64 and on a bare-metal Cortex-M4: the tokens and a hash of all logits are those of LiteRT."""

import os
import re
import subprocess
import textwrap

import micro_session as c
import pytest
from ai_edge_litert.interpreter import OpResolverType
from devices import need_program
from integer_steps import LiteRT, Micro
from micro_texts import decoder_with, lines_of, make, on_a_cortex_m4, on_arm64, on_this_machine, options

from keras_seq_export.micro.memory import planned
from keras_seq_export.micro.reading import read_program
from keras_seq_export.tflite.bundle import read_bundle

_TEXTS, _TOKENS = 10, 60
_MODELS = {"gru": {}, "lstm": {"cell": "lstm", "units": (30, 18)}}  # rows of weights that are no multiple of 4
_LARGEST_CODE = 12_000  # bytes on a Cortex-M4


@pytest.fixture(scope="module", params=["gru", "lstm"])
def bundle(request, small_tflite):
    """What a file of integers holds."""
    return read_bundle(small_tflite(quantization="integer", **_MODELS[request.param]))


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory):
    """A folder with a copy of the decoder and model.h, and the lines of LiteRT."""
    folder = decoder_with(bundle, tmp_path_factory.mktemp("machines"))
    return folder, lines_of(bundle, LiteRT(bundle.model), _TEXTS, _TOKENS)


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("gcc", "-O3"),
        ("gcc", "-O3 -DKS_MICRO_PLAIN"),
        ("gcc", "-O0"),
        ("gcc", "-Os"),
        ("clang", "-O3"),
        ("clang", "-O2 -mavx2"),
    ],
)
def test_on_this_machine(compiler, flags, model):
    folder, lines = model
    assert on_this_machine(folder, _TEXTS, _TOKENS, compiler, flags) == lines


@pytest.mark.parametrize("flags", ["-O3", "-Os"])
def test_on_arm64(flags, model):
    folder, lines = model
    assert on_arm64(folder, _TEXTS, _TOKENS, flags) == lines


@pytest.mark.parametrize("flags", ["-O2", "-Os", "-O2 -DKS_MICRO_PLAIN"])
def test_on_a_cortex_m4_without_any_library(flags, model):
    folder, lines = model
    found, instructions, stack = on_a_cortex_m4(folder, _TEXTS, _TOKENS, flags)
    assert found == lines
    assert 10_000 < instructions < 200_000
    assert 0 < stack < 1000
    objects = sorted((folder / f"build-m4{''.join(filter(str.isalnum, flags))}" / "cortex_m4").glob("*.o"))
    sizes = subprocess.run(["arm-none-eabi-size", "-t", *objects], check=True, capture_output=True, text=True).stdout
    assert int(sizes.splitlines()[-1].split()[0]) < _LARGEST_CODE


def test_a_thousand_texts_are_the_same_on_six_machines(small_tflite, tmp_path):
    bundle, count = read_bundle(small_tflite(quantization="integer")), (1000, 100)
    lines = lines_of(bundle, LiteRT(bundle.model), *count)
    assert lines_of(bundle, LiteRT(bundle.model, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES), *count) == lines
    assert lines_of(bundle, Micro(bundle.model), *count) == lines
    folder = decoder_with(bundle, tmp_path)
    assert on_this_machine(folder, *count) == lines
    assert on_arm64(folder, *count) == lines
    assert on_a_cortex_m4(folder, *count)[0] == lines


def test_the_decoder_needs_no_library_but_memcpy(model):
    """Compilers add the 64-bit division of libgcc."""
    need_program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    folder, _ = model
    make(
        folder,
        "build-m0",
        "firmware",
        options=options(_TEXTS, _TOKENS),
        CORTEX_M4="-mcpu=cortex-m4 -mthumb -ffreestanding -mfloat-abi=soft",
    )
    objects = sorted((folder / "build-m0" / "cortex_m4").glob("*.o"))
    assert len(objects) == len(c.SOURCES)
    names = subprocess.run(["arm-none-eabi-nm", "-u", *objects], check=True, capture_output=True, text=True).stdout
    missing = {name for name in re.findall(r"U (\w+)", names) if not name.startswith("ks_")}
    assert missing == {"memcpy", "__aeabi_uldivmod"}


@pytest.mark.parametrize(("target", "flags"), [("thumbv7em-none-eabi", "-O3"), ("thumbv6m-none-eabi", "-Os")])
def test_clang_has_no_warnings_where_there_are_no_vectors(target, flags, tmp_path):
    need_program("clang", "clang")
    command = ["clang", f"--target={target}", flags, *c.STRICT, "-ffreestanding", "-c", *c.SOURCES]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_processors_of_16_bits_are_refused(tmp_path):
    need_program("clang", "clang")
    command = ["clang", "--target=msp430", "-ffreestanding", "-fsyntax-only", c.MICRO / "draw.c", c.MICRO / "model.c"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert 'error: "the decoder needs an int of 32 bits' in done.stderr


def test_the_makefile_builds_all_files(model):
    folder, _ = model
    listed = re.search(r"OBJECTS = (.*)", (folder / "Makefile").read_text())[1].split()
    assert [name.replace(".o", ".c") for name in listed] == [path.name for path in c.SOURCES]
    headers = re.search(r"HEADERS = (.*)", (folder / "Makefile").read_text())[1].split()
    assert headers == sorted(path.name for path in c.MICRO.glob("*.h"))


def test_the_example_writes_the_texts(model):
    folder, _ = model
    given = f'{options(_TEXTS, _TOKENS)} -DPROMPT="\\"To be\\""'
    make(folder, "build", "example", program="write_text", options=given)
    texts = subprocess.run([folder / "build" / "write_text"], check=True, capture_output=True, text=True).stdout
    assert texts.count("To be") >= _TEXTS
    refused = subprocess.run(["make", "-s", "example"], cwd=folder, check=False, capture_output=True, text=True)
    assert "name a model: make MODEL=path/of/NAME.h" in refused.stderr


def test_the_program_of_the_readme_writes_a_text(model, tmp_path):
    folder, _ = model
    readme = (folder / "README.md").read_text()
    program = textwrap.dedent(re.search(r"```c\n(.*?)```", readme, re.DOTALL)[1])
    (tmp_path / "app.c").write_text(program)
    header = (folder / "model.h").read_text()
    (tmp_path / "shakespeare.h").write_text(
        header.replace("MODEL_", "SHAKESPEARE_").replace("model = {", "shakespeare = {")
    )
    command = [
        "cc",
        *c.STRICT,
        "-O2",
        f"-I{folder}",
        f"-I{tmp_path}",
        tmp_path / "app.c",
        *c.SOURCES,
        "-o",
        tmp_path / "app",
    ]
    subprocess.run(command, check=True)
    assert len(subprocess.run([tmp_path / "app"], check=True, capture_output=True).stdout) > 10
    sources = re.search(r"zephyr_library_sources\((.*?)\)", readme)[1].split()
    assert sources == [path.name for path in c.SOURCES]


def test_the_headers_are_cpp_too(model, tmp_path):
    need_program("c++", "g++")
    folder, _ = model
    (tmp_path / "a.cpp").write_text(
        '#include "keras_seq_micro.h"\n#include "model.h"\nint main() { return model.format == 0; }\n'
    )
    flags = ["-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{folder}"]
    subprocess.run(["c++", *flags, "-fsyntax-only", tmp_path / "a.cpp"], check=True, env={**os.environ, "LC_ALL": "C"})


def test_a_large_model_stays_within_its_target():
    """384 units and 65 characters: at most 0.65 MB of flash, and 8 kB of memory for everything."""
    import integer_steps

    import keras_seq as ks

    model = ks.language_model(65, units=[384])
    memory = planned(read_program(integer_steps.integer_model(integer_steps.float32_content(model, None))))
    assert 2 * memory.size == 3840
