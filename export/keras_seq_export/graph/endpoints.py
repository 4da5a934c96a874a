"""The signatures `decode`, `prefill`, `sample`, `write`, `gates`, `start` and `reset`, made from one step of a model."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_seq_export.graph import sampling as graph_sampling
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.signatures import (
    COUNT,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    NEXT_TOKEN,
    PREFILL_STEPS,
    SAMPLING_INPUTS,
    TOKEN,
    TOKENS,
    UNIFORM,
    UNIFORMS,
    WRITE_STEPS,
    is_state,
    state_name,
    update_gate_name,
)

# The function of a signature, and its input signature.
Endpoint = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]


def named_states(states: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the states by their names in the signatures."""
    # Without the identity, an output that is also an input would lose its name.
    return {state_name(index): tf.identity(state) for index, state in enumerate(states)}


def decode_endpoint(step: GraphStep, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `decode`."""
    count = len(step.inputs)

    def decode(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs, new_states = step.run(given[:count], given[count:])
        return {**outputs, **named_states(new_states)}

    return decode, [*step.input_specs(batch), *step.state_specs(batch)]


def prefill_endpoint(step: GraphStep, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `prefill`, which reads a prompt in one call.

    It reads the first `length` of the `PREFILL_STEPS` tokens or frames of each row, at least one, and returns the
    outputs after the last of them. Before that one it computes only the states, because with a large vocabulary most of
    the time of a step goes into the output. The loop ends with the longest row.
    """
    count = len(step.inputs)

    def prefill(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        values, length, states = given[:count], given[count], given[count + 1 :]

        def advance(position: tf.Tensor, *states: tf.Tensor) -> tuple[tf.Tensor, ...]:
            _, new_states = step.run([tf.gather(one, position, axis=1) for one in values], states)
            reads = (position < length - 1)[:, None]
            return position + 1, *(tf.where(reads, new, old) for new, old in zip(new_states, states, strict=True))

        # Bounded for any `length`; for a batch of 0 rows, reduce_max returns the smallest int32.
        last = tf.clip_by_value(tf.reduce_max(length), 1, PREFILL_STEPS) - 1
        _, *states = tf.while_loop(lambda position, *_: position < last, advance, (tf.constant(0), *states))
        outputs, new_states = step.run([tf.gather(one, length - 1, axis=1, batch_dims=1) for one in values], states)
        return {**outputs, **named_states(new_states)}

    steps = step.input_specs(batch, PREFILL_STEPS)
    return prefill, [*steps, tf.TensorSpec([batch], tf.int32, LENGTH), *step.state_specs(batch)]


def sample_endpoint(step: GraphStep, logit_bias: np.ndarray, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `sample`.

    Args:
        step: the model.
        logit_bias: array to add to the logits, `(vocabulary,)`, from `keras_seq.generation.sampling.logit_bias`.
        batch: the batch size; None leaves it open.
    """

    def sample(
        token: tf.Tensor,
        uniform: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        *states: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        logits, new_states = step(token, states)
        drawn = graph_sampling.next_token(logits, uniform, temperature, top_k, top_p, min_p, logit_bias)
        log_probability = graph_sampling.log_probability(logits, drawn)
        return {NEXT_TOKEN: drawn, LOG_PROBABILITY: log_probability, **named_states(new_states)}

    inputs = {TOKEN: "int32", UNIFORM: "float32", **SAMPLING_INPUTS}
    return sample, [*(tf.TensorSpec([batch], dtype, name) for name, dtype in inputs.items()), *step.state_specs(batch)]


def write_endpoint(step: GraphStep, logit_bias: np.ndarray, batch: int, eos_id: int) -> Endpoint:
    """Returns the function and the input signature of `write`, which runs `sample` up to `length` times in one call.

    A row ends at `<eos>`, the last of its tokens. What follows the last token is 0.

    Args:
        step: the model.
        logit_bias: see `sample_endpoint`.
        batch: the batch size.
        eos_id: the id of `<eos>`.
    """
    sample, _ = sample_endpoint(step, logit_bias, batch)

    def write(token: tf.Tensor, uniforms: tf.Tensor, length: tf.Tensor, *given: tf.Tensor) -> dict[str, tf.Tensor]:
        settings, states = given[: len(SAMPLING_INPUTS)], given[len(SAMPLING_INPUTS) :]

        def draw(
            position: tf.Tensor,
            count: tf.Tensor,
            token: tf.Tensor,
            tokens: tf.Tensor,
            log_probabilities: tf.Tensor,
            *states: tf.Tensor,
        ) -> tuple[tf.Tensor, ...]:
            drawn = sample(token, tf.gather(uniforms, position, axis=1), *settings, *states)
            next_token, log_probability = drawn.pop(NEXT_TOKEN), drawn.pop(LOG_PROBABILITY)
            new_states = list(drawn.values())
            writes = position < count
            if batch > 1:  # A row that has ended keeps its states. A single row ends the loop.
                pairs = zip(new_states, states, strict=True)
                new_states = [tf.where(writes[:, None], new, old) for new, old in pairs]
            here = (tf.range(WRITE_STEPS) == position) & writes[:, None]
            tokens = tf.where(here, next_token[:, None], tokens)
            log_probabilities = tf.where(here, log_probability[:, None], log_probabilities)
            count = tf.where(writes & (next_token == eos_id), position + 1, count)
            return position + 1, count, next_token, tokens, log_probabilities, *new_states

        count = tf.clip_by_value(length, 1, WRITE_STEPS)
        none = tf.zeros([batch, WRITE_STEPS], tf.int32)
        _, count, _, tokens, log_probabilities, *states = tf.while_loop(
            lambda position, count, *_: position < tf.reduce_max(count),
            draw,
            (tf.constant(0), count, token, none, tf.zeros([batch, WRITE_STEPS]), *states),
        )
        return {TOKENS: tokens, LOG_PROBABILITIES: log_probabilities, COUNT: count, **named_states(states)}

    several = tf.TensorSpec([batch, WRITE_STEPS], tf.float32, UNIFORMS)
    inputs = [tf.TensorSpec([batch], tf.int32, TOKEN), several, tf.TensorSpec([batch], tf.int32, LENGTH)]
    settings = [tf.TensorSpec([batch], dtype, name) for name, dtype in SAMPLING_INPUTS.items()]
    return write, [*inputs, *settings, *step.state_specs(batch)]


def gates_endpoint(step: GraphStep, batch: int) -> Endpoint:
    """Returns the function and the input signature of `gates`, which shows what a step keeps of the memory.

    It does not return the new states: `decode` does, for the same token and states.

    Raises:
        ModelError: see `keras_seq.models.step_gates.update_gates`.
    """
    update_gates = step.update_gates()

    def gates(token: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        return {update_gate_name(index): one for index, one in enumerate(update_gates(token, states))}

    return gates, [tf.TensorSpec([batch], tf.int32, TOKEN), *step.state_specs(batch)]


def start_endpoint(step: GraphStep, batch: int) -> Endpoint:
    """Returns the function and the input signature of `start`, which returns the initial states."""
    return lambda: named_states(step.initial_states(batch)), []


class StateVariables:
    """The states as variables of the exported model, instead of inputs and outputs of its signatures.

    They hold the initial states until the first call.

    Args:
        step: the model.
        batch: number of rows of each variable.
    """

    def __init__(self, step: GraphStep, batch: int):
        self._initial = step.initial_states(batch)
        self._variables = [
            tf.Variable(value, trainable=False, name=state_name(index)) for index, value in enumerate(self._initial)
        ]

    def endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Returns the signature without its states: it reads them from the variables and writes them back."""
        function, specs = endpoint

        def stateful(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = function(*inputs, *(variable.read_value() for variable in self._variables))
            for index, variable in enumerate(self._variables):
                variable.assign(outputs.pop(state_name(index)))
            return outputs

        return stateful, [spec for spec in specs if not is_state(spec.name)]

    def reset_endpoint(self) -> Endpoint:
        """Returns `reset`, which sets the initial states. It returns their number, since LiteRT requires an output."""

        def reset() -> dict[str, tf.Tensor]:
            for variable, value in zip(self._variables, self._initial, strict=True):
                variable.assign(value)
            return {"states": tf.constant([len(self._variables)])}

        return reset, []
