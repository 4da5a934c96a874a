"""Texts from seeds, and a hash of every logit, in all runtimes of an integer file: Python's, and the C decoder on each machine."""

import shutil
import subprocess

import micro_session as c
import numpy as np
from devices import need_program

from keras_seq.generation.integer_sampling import IntegerSettings, add_bias, logit_step, next_token
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.generation.threefry import uniform
from keras_seq_export.micro.export import translated
from keras_seq_export.micro.reading import read_program

FIRST_SEED = 5


def lines_of(bundle, step, texts, tokens):
    """Returns the lines that the program hash_logits prints: seed, hash so far, ids; drawn by the definition in Python.

    `step` runs `decode`, as `integer_steps.LiteRT` and `Micro` do.
    """
    program, vocabulary = read_program(bundle.model), bundle.vocabulary
    scale, settings = program.output_scale, IntegerSettings()
    bias, hashed, lines = logit_bias(vocabulary, SamplingSettings()), 14695981039346656037, []
    for seed in range(FIRST_SEED, FIRST_SEED + texts):
        token, ids = vocabulary.start_id, []
        states = {f"state_{number}": state.first[None] for number, state in enumerate(program.states)}
        while len(ids) < tokens and token != vocabulary.eos_id:
            states = step({"token": np.int32([token]), **states})
            logits = states.pop("logits")[0]
            for byte in logits.astype("<i2").tobytes():
                hashed = (hashed ^ byte) * 1099511628211 % 2**64
            number = int(uniform(seed, len(ids)) * 2**24)
            token = next_token(add_bias(logits, bias, scale), logit_step(scale), number, settings)
            ids.append(token)
        lines.append(f"{seed} {hashed:016x} {' '.join(map(str, ids))}")
    return lines


def decoder_with(bundle, folder):
    """Returns a copy of the decoder's folder with model.h."""
    copy = shutil.copytree(c.MICRO, folder / "micro", ignore=shutil.ignore_patterns("build"))
    header, _ = translated(bundle, "model")
    (copy / "model.h").write_text(header.text)
    return copy


def make(folder, build, *targets, options="", program="hash_logits", **variables):
    """Runs the decoder's Makefile; returns what it prints."""
    given = [f"{name}={value}" for name, value in variables.items()]
    known = [f"BUILD={build}", "MODEL=model.h", f"PROGRAM={program}", f"OPTIONS={options}"]
    command = ["make", "-s", *known, *given, *targets]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=590).stdout


def options(texts, tokens):
    """Returns the compiler's options for so many texts of so many tokens."""
    return f"-DTEXTS={texts} -DTOKENS={tokens} -DFIRST_SEED={FIRST_SEED}"


def on_this_machine(folder, texts, tokens, compiler="gcc", flags="-O3"):
    """Returns the lines of the decoder, compiled for this machine."""
    need_program(compiler, compiler)
    need_program("make", "make")
    build = f"build-{compiler}{''.join(filter(str.isalnum, flags))}"
    make(folder, build, "example", options=options(texts, tokens), CC=compiler, CFLAGS=f"{flags} -Werror")
    return _printed(folder / build / "hash_logits")


def on_arm64(folder, texts, tokens, flags="-O3"):
    """Returns the lines of the decoder on an emulated ARM64 processor."""
    need_program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    need_program("qemu-aarch64-static", "qemu-user-static")
    build, compiler = f"build-arm64{flags}", "aarch64-linux-gnu-gcc"
    make(folder, build, "example", options=options(texts, tokens), CC=compiler, CFLAGS=f"{flags} -static -Werror")
    return _printed("qemu-aarch64-static", "-cpu", "cortex-a76", folder / build / "hash_logits")


def on_a_cortex_m4(folder, texts, tokens, flags="-O2"):
    """Returns the lines of the decoder on an emulated bare-metal Cortex-M4, and the instructions of a step and the bytes of stack."""
    need_program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    need_program("qemu-system-arm", "qemu-system-arm")
    build = f"build-m4{''.join(filter(str.isalnum, flags))}"
    printed = make(folder, build, "emulate", options=options(texts, tokens), FIRMWARE_CFLAGS=f"{flags} -Werror")
    _, _, *lines, last = printed.splitlines()  # after the table of sizes
    return lines, *map(int, last.split())


def _printed(*command):
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=590)
    return done.stdout.splitlines()[:-1]
