"""Steps of an integer file in any runtime, and in TensorFlow Lite for Microcontrollers. Imports neither TensorFlow nor Keras.

TensorFlow Lite for Microcontrollers runs in a process of its own: it prints its errors, and an error in its native code
would end the export.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_seq_export.errors import ExportError

MICRO = "TensorFlow Lite for Microcontrollers"
_PACKAGE = "tflite_micro"
_ALIGNMENT = 16  # bytes; the arena is a multiple of it
_Arrays = dict[str, np.ndarray]


class Steps(NamedTuple):
    """Steps to run: those of a text or series, and single ones.

    Attributes:
        values: for each input that is not a state, its values along a text or series, `(steps, ...)`.
        states: the states before the first of these steps, by name.
        single: for each input, states among them, its values in single steps, `(single steps, ...)`.
    """

    values: _Arrays
    states: _Arrays
    single: _Arrays

    def __len__(self) -> int:
        """Returns the number of all steps."""
        return sum(len(next(iter(arrays.values()))) for arrays in (self.values, self.single))

    def run(self, step: Callable[[_Arrays], Mapping[str, np.ndarray]]) -> _Arrays:
        """Returns each output and each state after each step, the single ones last: `(steps, ...)`.

        Args:
            step: one step of a runtime, from inputs and states by name to outputs and new states by name.
        """
        found, states = list[_Arrays](), self.states
        for index in range(len(next(iter(self.values.values())))):
            outputs = step({name: values[index] for name, values in self.values.items()} | states)
            found.append({name: np.array(output) for name, output in outputs.items()})
            states = {name: found[-1][name] for name in states}
        for index in range(len(next(iter(self.single.values())))):
            outputs = step({name: values[index] for name, values in self.single.items()})
            found.append({name: np.array(output) for name, output in outputs.items()})
        return {name: np.stack([outputs[name] for outputs in found]) for name in found[0]}


class Micro(NamedTuple):
    """What TensorFlow Lite for Microcontrollers did.

    Attributes:
        outputs: see `Steps.run`.
        arena_bytes: the smallest arena in which its Python package runs the file, a multiple of 16.
    """

    outputs: _Arrays
    arena_bytes: int


def has_micro() -> bool:
    """Returns whether TensorFlow Lite for Microcontrollers is installed."""
    return importlib.util.find_spec(_PACKAGE) is not None


def run_in_micro(content: bytes, inputs: Mapping[str, int], outputs: Mapping[str, int], steps: Steps) -> Micro:
    """Runs steps in TensorFlow Lite for Microcontrollers, in a new process.

    Args:
        content: the flatbuffer.
        inputs: the position of each input of `decode` among those of the graph.
        outputs: the position of each output.
        steps: the steps.

    Raises:
        ExportError: it cannot run the file.
    """
    package = Path(__file__).resolve().parents[2]
    paths = [os.fspath(package), os.environ.get("PYTHONPATH", "")]
    child = subprocess.run(
        [sys.executable, "-m", __name__],
        input=pickle.dumps((content, dict(inputs), dict(outputs), steps)),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=False,
    )
    if child.returncode != 0:
        reason = child.stderr.decode(errors="replace").strip()[-500:]
        raise ExportError(f"{MICRO} cannot run the file (status {child.returncode}): {reason}")
    return Micro(*pickle.loads(child.stdout))


def _in_micro(content: bytes, inputs: Mapping[str, int], outputs: Mapping[str, int], steps: Steps) -> Micro:
    """Does what `run_in_micro` does, in this process."""
    from tflite_micro import runtime

    def loaded(arena_size: int | None) -> Callable[[_Arrays], _Arrays]:
        interpreter: Any = runtime.Interpreter.from_bytes(content, arena_size=arena_size)

        def step(values: _Arrays) -> _Arrays:
            # All inputs at each step, because the runtime overwrites them.
            for name, position in inputs.items():
                interpreter.set_input(values[name], position)
            interpreter.invoke()
            return {name: interpreter.get_output(position) for name, position in outputs.items()}

        return step

    found = steps.run(loaded(None))
    first = {name: values[0] for name, values in steps.single.items()}

    def fits(blocks: int) -> bool:
        try:
            loaded(blocks * _ALIGNMENT)(first)
        except RuntimeError:
            return False
        return True

    too_few, enough = 0, 64
    while not fits(enough):
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if fits(middle) else (middle, enough)
    return Micro(found, enough * _ALIGNMENT)


def _main() -> None:
    """The child process: reads its work from standard input and writes what it found to standard output."""
    # Whatever the library prints must not reach the pipe.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pipe.write(pickle.dumps(tuple(_in_micro(*pickle.load(sys.stdin.buffer)))))
    pipe.flush()


if __name__ == "__main__":
    _main()
