"""Proof that an integer file gives the same bits in every runtime: it is run in each of them, step by step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_seq.errors import shortened
from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import DECODE
from keras_seq_export.tflite.decoder import LiteRTDecoder
from keras_seq_export.tflite.flatbuffer import positions
from keras_seq_export.tflite.integer.steps import MICRO, Steps, has_micro, run_in_micro

_RANDOM_STEPS = 300
_LITERT = {
    "LiteRT with XNNPACK": OpResolverType.AUTO,
    "LiteRT without XNNPACK": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "LiteRT with reference kernels": OpResolverType.BUILTIN_REF,
}


class IntegerProof(NamedTuple):
    """In which runtimes an integer file gave the same bits.

    Attributes:
        proved_in: names of the runtimes.
        proved_steps: number of steps; a third or more of them are single steps from random states.
        arena_bytes: the smallest arena in which TensorFlow Lite for Microcontrollers ran the file on this machine, whose
            pointers have 8 bytes; None if it is not installed.
    """

    proved_in: list[str]
    proved_steps: int
    arena_bytes: int | None


def prove(decoder: LiteRTDecoder, values: list[np.ndarray]) -> IntegerProof:
    """Runs an integer file in each runtime.

    Args:
        decoder: the file.
        values: for each input of a step, its values along a text or series, `(1, steps, ...)`.

    Raises:
        ExportError: an output or a state differs in a bit, or a runtime cannot run the file.
    """
    content = decoder.bundle.model
    steps = _steps_of(decoder, values)
    expected: dict[str, np.ndarray] | None = None
    for name, kernels in _LITERT.items():
        found = steps.run(_litert_step(name, content, kernels))
        if expected is None:
            expected = found
        _require_same(name, expected, found)
    assert expected is not None
    if not has_micro():
        return IntegerProof(list(_LITERT), len(steps), None)
    micro = run_in_micro(content, *positions(content), steps)
    _require_same(MICRO, expected, micro.outputs)
    return IntegerProof([*_LITERT, MICRO], len(steps), micro.arena_bytes)


def _steps_of(decoder: LiteRTDecoder, values: list[np.ndarray]) -> Steps:
    """Returns the steps of a text or series, and single steps from random states that read random values."""
    each = [decoder.step_inputs([one[:, step] for one in values]) for step in range(values[0].shape[1])]
    along = {name: np.stack([inputs[name] for inputs in each]) for name in each[0]}
    generator = np.random.default_rng(0)
    single = {}
    for name, given in along.items():
        if given.dtype == np.int32:  # Any of those that were read; they are in the range of the model.
            single[name] = generator.choice(given, _RANDOM_STEPS)
        else:
            single[name] = _random(generator, given.shape[1:])
    states = dict(zip(decoder.states, decoder.initial_states(), strict=True))
    single |= {name: _random(generator, state.shape) for name, state in states.items()}
    return Steps(along, states, single)


def _random(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns int16 numbers `(steps, *shape)` of any size: those of a step are below a limit that is random too."""
    numbers = generator.uniform(-1, 1, (_RANDOM_STEPS, *shape))
    limits = 2.0 ** generator.uniform(8, 16, (_RANDOM_STEPS, *[1] * len(shape)))
    return np.clip(np.rint(numbers * limits), -(2**15), 2**15 - 1).astype(np.int16)


def _litert_step(
    name: str, content: bytes, kernels: OpResolverType
) -> Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]:
    try:
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
        runner: Any = interpreter.get_signature_runner(DECODE)
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"{name} cannot run the file: {shortened(str(error).partition(chr(10))[0])}") from error
    return lambda inputs: runner(**inputs)


def _require_same(runtime: str, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    first = next(iter(_LITERT))
    for name, one in expected.items():
        if not np.array_equal(one, found[name]):
            different = (one != found[name]).reshape(len(one), -1)
            raise ExportError(
                f"{runtime} gives other integers than {first}: `{name}` differs in {different.any(axis=1).sum()} of "
                f"{len(one)} steps, first in step {int(different.any(axis=1).argmax())}; nothing was published"
            )
