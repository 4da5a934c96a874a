"""The C decoder of export/native/micro/, compiled with a model's header and run by commands (micro_session.c)."""

import subprocess
from typing import NamedTuple

import numpy as np
import paths

MICRO = paths.REPOSITORY / "export" / "native" / "micro"
SOURCES = sorted(MICRO.glob("*.c"))
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
OK, OTHER_FORMAT, DAMAGED, TOO_SMALL, NOT_UTF8, UNKNOWN_TOKEN, NO_TOKEN, NOT_OF_TEXT, NOT_OF_FRAMES, BAD_ARGUMENT = (
    range(10)
)


class Answer(NamedTuple):
    """The status, `detail` and what else a command printed."""

    status: int
    detail: int
    rest: list[str]

    @property
    def numbers(self):
        return np.array([int(one) for one in self.rest], np.int64)


def compile_decoder(folder, compiler="cc", flags=SANITIZED):
    """Compiles the decoder's files into a folder; returns it."""
    sources = [str(path) for path in SOURCES]
    subprocess.run([compiler, *STRICT, *flags, "-c", *sources], cwd=folder, check=True)
    return folder


class Session:
    """A program with one model. `objects` is a folder from `compile_decoder`, with the same compiler and flags."""

    def __init__(self, folder, objects, header, name, compiler="cc", flags=SANITIZED, runner=()):
        (folder / f"{name}.h").write_text(header)
        self._program, self._runner = folder / "session", runner
        defined = [f"-DMODEL={name}", f'-DMODEL_HEADER="{name}.h"', "-D_POSIX_C_SOURCE=200809L"]
        included = [f"-I{folder}", f"-I{MICRO}"]
        source = paths.SUPPORT / "micro_session.c"
        command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", *flags, *defined, *included, source]
        subprocess.run([*command, *sorted(objects.glob("*.o")), "-o", self._program], check=True)

    def run(self, *commands, memory=1 << 20):
        """Runs commands after opening the model; returns an `Answer` to each, and that to the opening first."""
        given = b"".join(one if isinstance(one, bytes) else one.encode() for one in (f"o {memory}\n", *commands))
        done = subprocess.run([*self._runner, self._program], input=given, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        assert len(lines) == len(commands) + 1
        return [Answer(int(status), int(detail), rest) for status, detail, *rest in lines]


def step(token):
    return f"s {token}\n"


def frame(numbers):
    return f"f {' '.join(map(str, np.ravel(numbers).tolist()))}\n"


def text(command, value):
    """A prompt ("p"), or more text ("r")."""
    value = value if isinstance(value, bytes) else value.encode()
    return f"{command} {len(value)} ".encode() + value + b"\n"


def write(seed, max_tokens, settings):
    """`settings` are an `IntegerSettings`."""
    values = (settings.temperature, settings.top_k, settings.top_p, settings.min_p)
    return f"w {seed % 2**64} {max_tokens} {' '.join(map(str, values))}\n"


def choose(seed=0, position=0):
    return f"c {seed} {position}\n"


def suggest(value, count=3, steps=64, workspace=1 << 20, command="g"):
    value = value if isinstance(value, bytes) else value.encode()
    return f"{command} {count} {steps} {workspace} {len(value)} ".encode() + value + b"\n"


def written(answer):
    """The tokens and the text of an answer to `write`."""
    end = answer.rest.index(";")
    tokens = [int(token) for token in answer.rest[:end]]
    status, _, *shown = answer.rest[end + 1 :]
    assert int(status) == OK
    return tokens, bytes.fromhex("".join(shown)).decode()
