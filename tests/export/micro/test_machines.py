"""The C decoder on x86-64, on ARM64 and on a bare-metal Cortex-M4: the tokens and a hash of all logits are those of LiteRT."""

import os
import re
import shutil
import subprocess
import textwrap

import micro_session as c
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from devices import need_program

from keras_seq.generation.integer_sampling import IntegerSettings, add_bias, logit_step, next_token
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.generation.threefry import uniform
from keras_seq_export.micro.export import translated
from keras_seq_export.micro.memory import planned
from keras_seq_export.micro.reading import read_program
from keras_seq_export.tflite.bundle import read_bundle

_TEXTS, _TOKENS, _FIRST_SEED = 10, 60, 5
_OPTIONS = f"-DTEXTS={_TEXTS} -DTOKENS={_TOKENS} -DFIRST_SEED={_FIRST_SEED}"
_MODELS = {"gru": {}, "lstm": {"cell": "lstm", "units": (30, 18)}}  # rows of weights that are no multiple of 4
_LARGEST_CODE = 12_000  # bytes on a Cortex-M4


def lines_of_litert(bundle):
    """Returns the lines that the program hash_logits prints, of tokens drawn by the definition in Python."""
    program = read_program(bundle.model)
    vocabulary, scale = bundle.vocabulary, program.output_scale
    runner = Interpreter(model_content=bundle.model).get_signature_runner("decode")
    bias, hashed, lines = logit_bias(vocabulary, SamplingSettings()), 14695981039346656037, []
    for seed in range(_FIRST_SEED, _FIRST_SEED + _TEXTS):
        token, ids = vocabulary.start_id, []
        states = {f"state_{number}": state.first[None] for number, state in enumerate(program.states)}
        while len(ids) < _TOKENS and token != vocabulary.eos_id:
            states = runner(token=np.int32([token]), **states)
            logits = states.pop("logits")[0]
            for byte in logits.astype("<i2").tobytes():
                hashed = (hashed ^ byte) * 1099511628211 % 2**64
            number = int(uniform(seed, len(ids)) * 2**24)
            token = next_token(add_bias(logits, bias, scale), logit_step(scale), number, IntegerSettings())
            ids.append(token)
        lines.append(f"{seed} {hashed:016x} {' '.join(map(str, ids))}")
    return lines


@pytest.fixture(scope="module", params=list(_MODELS))
def model(request, small_tflite, tmp_path_factory):
    """A folder with a copy of the decoder and model.h, and the lines of LiteRT."""
    bundle = read_bundle(small_tflite(quantization="integer", **_MODELS[request.param]))
    folder = shutil.copytree(
        c.MICRO, tmp_path_factory.mktemp("machines") / "micro", ignore=shutil.ignore_patterns("build")
    )
    header, _ = translated(bundle, "model")
    (folder / "model.h").write_text(header.text)
    return folder, lines_of_litert(bundle)


def make(folder, build, *targets, **variables):
    given = [f"{name}={value}" for name, value in variables.items()]
    command = [
        "make",
        "-s",
        f"BUILD={build}",
        "MODEL=model.h",
        "PROGRAM=hash_logits",
        f"OPTIONS={_OPTIONS}",
        *given,
        *targets,
    ]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300).stdout


def printed(*command):
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return done.stdout.splitlines()[:-1]


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("gcc", "-O0"),
        ("gcc", "-Os"),
        ("gcc", "-O3"),
        ("gcc", "-O3 -DKS_MICRO_PLAIN"),
        ("clang", "-O3"),
        ("clang", "-O2 -mavx2"),
    ],
)
def test_on_this_machine(compiler, flags, model):
    need_program(compiler, compiler)
    need_program("make", "make")
    folder, lines = model
    build = f"build{abs(hash((compiler, flags)))}"
    make(folder, build, "example", CC=compiler, CFLAGS=f"{flags} -Werror")
    assert printed(folder / build / "hash_logits") == lines


@pytest.mark.parametrize("flags", ["-O3", "-Os"])
def test_on_arm64(flags, model):
    need_program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    need_program("qemu-aarch64-static", "qemu-user-static")
    folder, lines = model
    build = f"build-arm64{flags}"
    make(folder, build, "example", CC="aarch64-linux-gnu-gcc", CFLAGS=f"{flags} -static -Werror")
    assert printed("qemu-aarch64-static", "-cpu", "cortex-a76", folder / build / "hash_logits") == lines


@pytest.mark.parametrize("flags", ["-O2", "-Os", "-O2 -DKS_MICRO_PLAIN"])
def test_on_a_cortex_m4_without_any_library(flags, model):
    need_program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    need_program("qemu-system-arm", "qemu-system-arm")
    folder, lines = model
    build = f"build-m4{flags[:3]}{len(flags)}"
    _, _, *found, last = make(folder, build, "emulate", FIRMWARE_CFLAGS=f"{flags} -Werror").splitlines()
    assert found == lines
    instructions, stack = map(int, last.split())
    assert 10_000 < instructions < 200_000
    assert 0 < stack < 1000
    objects = sorted((folder / build / "cortex_m4").glob("*.o"))
    sizes = subprocess.run(["arm-none-eabi-size", "-t", *objects], check=True, capture_output=True, text=True).stdout
    assert int(sizes.splitlines()[-1].split()[0]) < _LARGEST_CODE


def test_the_decoder_needs_no_library_but_memcpy(model):
    """Compilers add the 64-bit division of libgcc."""
    need_program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    folder, _ = model
    make(folder, "build-m0", "firmware", CORTEX_M4="-mcpu=cortex-m4 -mthumb -ffreestanding -mfloat-abi=soft")
    objects = sorted((folder / "build-m0" / "cortex_m4").glob("*.o"))
    assert len(objects) == len(c.SOURCES)
    names = subprocess.run(["arm-none-eabi-nm", "-u", *objects], check=True, capture_output=True, text=True).stdout
    missing = {name for name in re.findall(r"U (\w+)", names) if not name.startswith("ks_")}
    assert missing == {"memcpy", "__aeabi_uldivmod"}


def test_the_makefile_builds_all_files(model):
    folder, _ = model
    listed = re.search(r"OBJECTS = (.*)", (folder / "Makefile").read_text())[1].split()
    assert [name.replace(".o", ".c") for name in listed] == [path.name for path in c.SOURCES]
    headers = re.search(r"HEADERS = (.*)", (folder / "Makefile").read_text())[1].split()
    assert headers == sorted(path.name for path in c.MICRO.glob("*.h"))


def test_the_example_writes_the_texts(model):
    folder, _ = model
    make(folder, "build", "example", PROGRAM="write_text", OPTIONS=f'{_OPTIONS} -DPROMPT="\\"To be\\""')
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
