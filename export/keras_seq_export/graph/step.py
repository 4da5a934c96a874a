"""One step of a model inside a graph, and the signatures `decode`, `prefill`, `sample`, `start` and `reset`."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation.decoder_step import require_vocabulary
from keras_seq.models.checks import has_finite_weights
from keras_seq.models.clone import dtypes_other_than_float32, float32_copy
from keras_seq.models.step_model import stepped, stepped_language_model
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

# The function of a signature, and its input signature.
Endpoint = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]


class GraphStep:
    """The one-step decoder of a model, with float32 outputs and states whatever the dtype of the model.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` or frames `(batch, time, ...)` -> outputs
            `(batch, time, ...)`; with a vocabulary, token ids -> logits or probabilities `(batch, time, vocabulary)`.
        vocabulary: the vocabulary of the model; None for a model of other series than text.

    Attributes:
        name: name of the input of a step, `TOKEN` or `FRAME`.
        output: name of the output of a step, `LOGITS` or `OUTPUT`.
        units: size of each state.
        initial: value of each state at the start of a text or series, `(units,)` float32.
        dtypes: dtype of each state in the model.

    Raises:
        ExportError: a weight is NaN or infinite.
        SteppingError: `model` cannot be run one step at a time.
        ModelError: `model` does not give an output after each step, or gives NaN. With a vocabulary: `model` does not take
            token ids, or has another number of logits than the vocabulary has tokens.
    """

    def __init__(self, model: keras.Model, vocabulary: Vocabulary | None):
        if isinstance(model, keras.Model) and not has_finite_weights(model):
            raise ExportError(
                "the model's weights must be finite, but some are NaN or infinite, because training diverged; train "
                "again with gradient clipping or a lower learning rate"
            )
        stepped_as = stepped if vocabulary is None else stepped_language_model
        self._stepped = stepped_as(model)
        self._decoder = self._stepped.decoder
        self._input, *states = self._decoder.inputs
        self.name = self._input.name
        self.output = OUTPUT if vocabulary is None else LOGITS
        if vocabulary is not None:
            require_vocabulary(vocabulary, self._decoder.outputs[0].shape[-1])
        self.units: list[int] = [state.shape[1] for state in states]
        self.initial = [state.astype(np.float32) for state in self._stepped.initial_states]
        self.dtypes = [keras.backend.standardize_dtype(state.dtype) for state in states]

    @property
    def begins_at_zero(self) -> bool:
        """Whether each initial state is zero."""
        return not any(value.any() for value in self.initial)

    def initial_states(self, batch: tf.Tensor | int) -> list[tf.Tensor]:
        """Returns the initial states, each `(batch, units)` float32."""
        return [tf.broadcast_to(value, [batch, len(value)]) for value in self.initial]

    def __call__(self, value: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the outputs `(batch, ...)` and the new states after a token `(batch,)` or frame `(batch, ...)`."""
        states = [tf.cast(state, dtype) for state, dtype in zip(states, self.dtypes, strict=True)]
        output, *states = self._decoder([tf.cast(value, self._input.dtype), *states], training=False)
        if self.output == LOGITS:
            output = self._stepped.logits_of(output)
        return tf.cast(output, tf.float32), [tf.cast(state, tf.float32) for state in states]

    def input_spec(self, batch: int | None, steps: int | None = None) -> tf.TensorSpec:
        """Returns the spec of the input of one step, or of `steps` steps; `batch` None leaves the batch size open."""
        name, dtype = (TOKEN, tf.int32) if self.name == TOKEN else (FRAME, tf.float32)
        shape = [batch, *self._input.shape[1:]]
        if steps is None:
            return tf.TensorSpec(shape, dtype, name)
        return tf.TensorSpec([batch, steps, *shape[1:]], dtype, TOKENS if name == TOKEN else FRAMES)

    def state_specs(self, batch: int | None) -> list[tf.TensorSpec]:
        """Returns the specs of the states; `batch` None leaves the batch size open."""
        return [tf.TensorSpec([batch, units], tf.float32, state_name(index)) for index, units in enumerate(self.units)]


def float32_step(model: keras.Model, vocabulary: Vocabulary | None) -> tuple[keras.Model, GraphStep, list[str]]:
    """Returns the model in float32, its step, and the floating-point dtypes in which the given model computes.

    The exported files compute in float32: TFLite's operators do, and a seed gives the same text in both.

    Raises:
        ModelError: a layer in another dtype cannot be copied; or see `GraphStep`.
        SteppingError: see `GraphStep`.
        ExportError: see `GraphStep`.
    """
    step = GraphStep(model, vocabulary)
    others = dtypes_other_than_float32(model)
    if not others:
        return model, step, ["float32"]
    try:
        copy = float32_copy(model)
    except ValueError as error:
        raise ModelError(
            f"`model` computes in {', '.join(others)}, but exported files in float32, and {error}; build it again under "
            "the float32 policy and give it the weights with `set_weights`"
        ) from error
    return copy, GraphStep(copy, vocabulary), others


def named_states(states: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the states by their names in the signatures."""
    # Without the identity, an output that is also an input would lose its name.
    return {state_name(index): tf.identity(state) for index, state in enumerate(states)}


def decode_endpoint(step: GraphStep, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `decode`."""

    def decode(value: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        output, new_states = step(value, states)
        return {step.output: output, **named_states(new_states)}

    return decode, [step.input_spec(batch), *step.state_specs(batch)]


def prefill_endpoint(step: GraphStep, batch: int | None) -> Endpoint:
    """Returns the function and the input signature of `prefill`, which reads a prompt in one call.

    It reads the first `length` of the `PREFILL_STEPS` tokens or frames of each row, at least one, and returns the
    output after the last of them. Before that one it computes only the states, because with a large vocabulary most of
    the time of a step goes into the output. The loop ends with the longest row.
    """

    def prefill(values: tf.Tensor, length: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        def advance(position: tf.Tensor, *states: tf.Tensor) -> tuple[tf.Tensor, ...]:
            _, new_states = step(tf.gather(values, position, axis=1), states)
            reads = (position < length - 1)[:, None]
            return position + 1, *(tf.where(reads, new, old) for new, old in zip(new_states, states, strict=True))

        # Bounded for any `length`; for a batch of 0 rows, reduce_max returns the smallest int32.
        last = tf.clip_by_value(tf.reduce_max(length), 1, PREFILL_STEPS) - 1
        _, *states = tf.while_loop(lambda position, *_: position < last, advance, (tf.constant(0), *states))
        output, new_states = step(tf.gather(values, length - 1, axis=1, batch_dims=1), states)
        return {step.output: output, **named_states(new_states)}

    steps = step.input_spec(batch, PREFILL_STEPS)
    return prefill, [steps, tf.TensorSpec([batch], tf.int32, LENGTH), *step.state_specs(batch)]


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
