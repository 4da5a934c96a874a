"""Proof that the C decoder's program gives LiteRT's integers: both run the same steps before a header is published."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_seq_export.errors import ExportError
from keras_seq_export.micro.execute import Execution
from keras_seq_export.micro.memory import Memory
from keras_seq_export.micro.program import State
from keras_seq_export.signatures import DECODE, FRAME, TOKEN, is_state, state_name
from keras_seq_export.tflite.integer.steps import Steps

_STEPS: Final = 200  # in one series, and as many from random states
_Arrays = Mapping[str, np.ndarray]


def prove_program(content: bytes, memory: Memory) -> int:
    """Runs a program and the file that it was read from.

    Args:
        content: the flatbuffer.
        memory: the program with its memory.

    Returns:
        The number of steps; half of them are a series of random tokens or frames, the others start from random states.

    Raises:
        ExportError: an integer of an output or of a state differs.
    """
    steps = _random_steps(memory)
    runner = Interpreter(model_content=content).get_signature_runner(DECODE)
    expected = steps.run(lambda inputs: runner(**inputs))
    execution = Execution(memory)
    (output,) = (name for name in expected if not is_state(name))

    def step(inputs: _Arrays) -> _Arrays:
        states = memory.program.states
        execution.set_states([inputs[state_name(number)] for number in range(len(states))])
        given = int(inputs[TOKEN].item()) if TOKEN in inputs else inputs[FRAME]
        found = {output: execution.step(given).reshape(expected[output].shape[1:])}
        after = zip(states, execution.states(), strict=True)
        return found | {
            state_name(number): numbers.reshape(1, state.before.size) for number, (state, numbers) in enumerate(after)
        }

    found = steps.run(step)
    for name, numbers in expected.items():
        different = int((numbers != found[name].reshape(numbers.shape)).sum())
        if different:
            raise ExportError(
                f"the C decoder's program gives other integers than LiteRT: {different:,} of {numbers.size:,} in {name}; "
                "nothing was published"
            )
    return len(steps)


def _random_steps(memory: Memory) -> Steps:
    generator, program = np.random.default_rng(0), memory.program

    def inputs() -> dict[str, np.ndarray]:
        if program.frame is None:
            return {TOKEN: generator.integers(0, program.tokens, (_STEPS, 1)).astype(np.int32)}
        return {FRAME: _random_numbers(generator, program.frame.size, program.frame_shape)}

    def first(state: State) -> np.ndarray:
        return state.first.reshape(1, -1)

    names = [(state_name(number), state) for number, state in enumerate(program.states)]
    single = {name: _random_numbers(generator, state.before.size, (1, state.before.size)) for name, state in names}
    return Steps(inputs(), {name: first(state) for name, state in names}, inputs() | single)


def _random_numbers(generator: np.random.Generator, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns int16 numbers `(steps, *shape)`; those of a step are below a limit that is random too."""
    limits = 2.0 ** generator.uniform(8, 15, (_STEPS, 1))
    return (generator.uniform(-1, 1, (_STEPS, count)) * limits).astype(np.int16).reshape(_STEPS, *shape)
