"""One step of a model inside a graph, and the signatures made of it that both exporters save."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import check_vocabulary
from keras_seq.models.checks import require_each_step, require_logits
from keras_seq.models.step_model import step_model
from keras_seq_export.errors import ExportError
from keras_seq_export.graph import sampling as graph_sampling
from keras_seq_export.signatures import (
    FRAME,
    FRAMES,
    LENGTH,
    LOG_PROBABILITY,
    LOGITS,
    NEXT_TOKEN,
    OUTPUT,
    PREFILL_STEPS,
    SAMPLING_INPUTS,
    TOKEN,
    TOKENS,
    UNIFORM,
    is_state,
    state_name,
)

# A function of a signature and what it takes.
Endpoint = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]


class GraphStep:
    """The one-step decoder with float32 outputs and states, whatever the model's own dtype.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` or frames `(batch, time, ...)` -> outputs
            `(batch, time, ...)`; with a vocabulary, token ids -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary; None for a model that is not of text.

    Attributes:
        name: of what a step reads, `TOKEN` or `FRAME`.
        output: name of what it gives, `LOGITS` or `OUTPUT`.
        units: the size of each state.
        dtypes: the model's own dtype of each state.

    Raises:
        ExportError: a weight is not finite.
        ValueError: `model` cannot be stepped; or, with a vocabulary, ends in a softmax, does not take token ids, or is of
            another vocabulary.
    """

    def __init__(self, model: keras.Model, vocabulary: Vocabulary | None):
        (require_each_step if vocabulary is None else require_logits)(model)
        if not all(np.isfinite(np.asarray(weight, np.float32)).all() for weight in model.weights):
            raise ExportError(
                "the model's weights must be finite numbers, and some are not: the training diverged; train again with a "
                "clipped gradient or a lower learning rate"
            )
        self._decoder = step_model(model)
        self._input, *states = self._decoder.inputs
        self.name = self._input.name
        self.output = OUTPUT if vocabulary is None else LOGITS
        if vocabulary is not None:
            if self.name != TOKEN or keras.backend.standardize_dtype(self._input.dtype) != "int32":
                raise ValueError(
                    f"`model` must take token ids. Received: {model.name}, which takes {self._input.dtype}"
                )
            check_vocabulary(vocabulary, self._decoder.outputs[0].shape[-1])
        self.units: list[int] = [state.shape[1] for state in states]
        self.dtypes = [keras.backend.standardize_dtype(state.dtype) for state in states]

    def initial_states(self, batch: tf.Tensor) -> list[tf.Tensor]:
        """Returns zeros, each `(batch, units)`."""
        return [tf.zeros([batch, units]) for units in self.units]

    def __call__(self, value: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Token `(batch,)` or frame `(batch, ...)`, and states -> outputs `(batch, ...)` and the new states."""
        states = [tf.cast(state, dtype) for state, dtype in zip(states, self.dtypes, strict=True)]
        output, *states = self._decoder([tf.cast(value, self._input.dtype), *states], training=False)
        return tf.cast(output, tf.float32), [tf.cast(state, tf.float32) for state in states]

    def input_spec(self, batch: int | None, steps: int | None = None) -> tf.TensorSpec:
        """Returns the signature of what a step reads; with `steps`, of what so many read."""
        name, dtype = (TOKEN, tf.int32) if self.name == TOKEN else (FRAME, tf.float32)
        shape = [batch, *self._input.shape[1:]]
        if steps is None:
            return tf.TensorSpec(shape, dtype, name)
        return tf.TensorSpec([batch, steps, *shape[1:]], dtype, TOKENS if name == TOKEN else FRAMES)

    def state_specs(self, batch: int | None) -> list[tf.TensorSpec]:
        """Returns the input signature of the states."""
        return [tf.TensorSpec([batch, units], tf.float32, state_name(index)) for index, units in enumerate(self.units)]


def named_states(states: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the new states under their names in every signature."""
    # The identity keeps names apart where an output is the input of another.
    return {state_name(index): tf.identity(state) for index, state in enumerate(states)}


def decode_endpoint(step: GraphStep, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `decode`."""

    def decode(value: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        output, new_states = step(value, states)
        return {step.output: output, **named_states(new_states)}

    return decode, [step.input_spec(batch), *step.state_specs(batch)]


def prefill_endpoint(step: GraphStep, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `prefill`: several steps at once, for prompts.

    It reads the first `length` of the `PREFILL_STEPS` tokens or frames of each row, at least one, and gives the output of
    the last of these. Until then only the states are computed: the outputs, which with a large vocabulary are most of a
    step, are left out. The loop ends with the longest row.
    """

    def prefill(values: tf.Tensor, length: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        def advance(position: tf.Tensor, *states: tf.Tensor) -> tuple[tf.Tensor, ...]:
            _, new_states = step(tf.gather(values, position, axis=1), states)
            goes_on = (position < length - 1)[:, None]
            return position + 1, *(tf.where(goes_on, new, old) for new, old in zip(new_states, states, strict=True))

        # Bounded, whatever a client asks for; of no rows at all the longest would be the least of all numbers.
        last = tf.clip_by_value(tf.reduce_max(length), 1, PREFILL_STEPS) - 1
        _, *states = tf.while_loop(lambda position, *_: position < last, advance, (tf.constant(0), *states))
        output, new_states = step(tf.gather(values, length - 1, axis=1, batch_dims=1), states)
        return {step.output: output, **named_states(new_states)}

    steps = step.input_spec(batch, PREFILL_STEPS)
    return prefill, [steps, tf.TensorSpec([batch], tf.int32, LENGTH), *step.state_specs(batch)]


def sample_endpoint(step: GraphStep, added: np.ndarray, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `sample`; `added` to the logits is what forbids tokens."""

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
        drawn = graph_sampling.next_token(logits, uniform, temperature, top_k, top_p, min_p, added)
        log_probability = graph_sampling.log_probability(logits, drawn)
        return {NEXT_TOKEN: drawn, LOG_PROBABILITY: log_probability, **named_states(new_states)}

    inputs = {TOKEN: "int32", UNIFORM: "float32", **SAMPLING_INPUTS}
    return sample, [*(tf.TensorSpec([batch], dtype, name) for name, dtype in inputs.items()), *step.state_specs(batch)]


class StatesInside:
    """Signatures whose states are the model's own variables, in place of inputs and outputs.

    Args:
        step: the model.
        batch: how many rows the variables have.
    """

    def __init__(self, step: GraphStep, batch: int):
        self._variables = [
            tf.Variable(tf.zeros([batch, units]), trainable=False, name=state_name(index))
            for index, units in enumerate(step.units)
        ]

    def endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Returns the same signature without states."""
        function, specs = endpoint

        def stateful(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = function(*inputs, *(variable.read_value() for variable in self._variables))
            for index, variable in enumerate(self._variables):
                variable.assign(outputs.pop(state_name(index)))
            return outputs

        return stateful, [spec for spec in specs if not is_state(spec.name)]

    def reset_endpoint(self) -> Endpoint:
        """Returns the signature that sets the states to zero; it gives their number, since LiteRT wants an output."""

        def reset() -> dict[str, tf.Tensor]:
            for variable in self._variables:
                variable.assign(tf.zeros_like(variable))
            return {"states": tf.constant([len(self._variables)])}

        return reset, []
