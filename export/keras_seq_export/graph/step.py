"""One step of a model inside a graph, in float32."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation.decoder_step import require_vocabulary
from keras_seq.models.checks import has_finite_weights
from keras_seq.models.clone import dtypes_other_than_float32, float32_copy
from keras_seq.models.inputs import ModelInput, is_integer
from keras_seq.models.step_gates import update_gates
from keras_seq.models.step_model import stepped, stepped_language_model
from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import LOGITS, OUTPUT, PLURALS, state_name


class GraphStep:
    """The one-step decoder of a model, with float32 outputs and states whatever the dtype of the model.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` or frames `(batch, time, ...)` -> outputs
            `(batch, time, ...)`; with a vocabulary, token ids -> logits or probabilities `(batch, time, vocabulary)`.
        vocabulary: the vocabulary of the model; None for a model of other series than text.

    Attributes:
        inputs: the inputs of the model that a step reads.
        outputs: the names of the outputs of a step.
        units: size of each state.
        stepped: the verified one-step form of the model.
        of_text: whether it is a model of text, with a vocabulary.

    Raises:
        ExportError: a weight is NaN or infinite.
        SteppingError: `model` cannot be run one step at a time.
        ModelError: `model` gives NaN. With a vocabulary: `model` does not take token ids, or has another number of logits
            than the vocabulary has tokens.
    """

    def __init__(self, model: keras.Model, vocabulary: Vocabulary | None):
        if isinstance(model, keras.Model) and not has_finite_weights(model):
            raise ExportError(
                "the model's weights must be finite, but some are NaN or infinite, because training diverged; train "
                "again with gradient clipping or a lower learning rate"
            )
        self.stepped = stepped(model) if vocabulary is None else stepped_language_model(model)
        self.of_text = vocabulary is not None
        self._decoder = self.stepped.decoder
        self.inputs: list[ModelInput] = self.stepped.step_inputs
        self._tensors, self._states = self._decoder.inputs[: len(self.inputs)], self._decoder.inputs[len(self.inputs) :]
        names = [output.name for output in self.stepped.graph.outputs]
        self.outputs = names if len(names) > 1 else [OUTPUT if vocabulary is None else LOGITS]
        if vocabulary is not None:
            require_vocabulary(vocabulary, self._decoder.outputs[0].shape[-1])
        self.units: list[int] = [state.shape[1] for state in self._states]

    @property
    def has_encoder(self) -> bool:
        """Whether the states at the start of a text or series depend on what is given at once."""
        return self.stepped.has_encoder

    @property
    def initial(self) -> list[np.ndarray]:
        """The value of each state at the start of a text or series, `(units,)` float32.

        Raises:
            SteppingError: they depend on what is given at once.
        """
        return [state.astype(np.float32) for state in self.stepped.initial_states]

    @property
    def begins_at_zero(self) -> bool:
        """Whether each initial state is zero."""
        return not self.has_encoder and not any(value.any() for value in self.initial)

    def initial_states(self, batch: tf.Tensor | int) -> list[tf.Tensor]:
        """Returns the initial states, each `(batch, units)` float32."""
        return [tf.broadcast_to(value, [batch, len(value)]) for value in self.initial]

    def __call__(self, value: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the only output `(batch, ...)` and the new states after a token `(batch,)` or frame `(batch, ...)`."""
        outputs, states = self.run([value], states)
        (output,) = outputs.values()
        return output, states

    def run(
        self, values: Sequence[tf.Tensor], states: Sequence[tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Returns the outputs by name and the new states after a step, which reads a value for each of `inputs`."""
        answers = self._decoder(self._given(values, states), training=False)
        outputs, states = answers[: len(self.outputs)], answers[len(self.outputs) :]
        if self.of_text:
            outputs = [self.stepped.logits_of(outputs[0])]
        named = {name: tf.cast(output, tf.float32) for name, output in zip(self.outputs, outputs, strict=True)}
        return named, [tf.cast(state, tf.float32) for state in states]

    def update_gates(self) -> Callable[[tf.Tensor, Sequence[tf.Tensor]], list[tf.Tensor]]:
        """Returns a function that gives Γu `(batch, units)` of each `GRU` layer in the step that reads a token.

        Raises:
            ModelError: see `keras_seq.models.step_gates.update_gates`.
        """
        gates = update_gates(self._decoder)

        def run(token: tf.Tensor, states: Sequence[tf.Tensor]) -> list[tf.Tensor]:
            return [
                tf.cast(one, tf.float32) for one in tree.flatten(gates(self._given([token], states), training=False))
            ]

        return run

    def _given(self, values: Sequence[tf.Tensor], states: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the inputs of the decoder in its dtypes."""
        pairs = zip([*values, *states], [*self._tensors, *self._states], strict=True)
        return [_cast(value, tensor.dtype) for value, tensor in pairs]

    def input_specs(self, batch: int | None, steps: int | None = None) -> list[tf.TensorSpec]:
        """Returns the specs of the inputs of one step, or of `steps` steps; `batch` None leaves the batch size open."""
        leading = [batch] if steps is None else [batch, steps]
        return [
            tf.TensorSpec(
                [*leading, *tensor.shape[1:]],
                signature_dtype(tensor),
                name if steps is None else PLURALS.get(name, name),
            )
            for name, tensor in zip([given.name for given in self.inputs], self._tensors, strict=True)
        ]

    def state_specs(self, batch: int | None) -> list[tf.TensorSpec]:
        """Returns the specs of the states; `batch` None leaves the batch size open."""
        return [tf.TensorSpec([batch, units], tf.float32, state_name(index)) for index, units in enumerate(self.units)]


def signature_dtype(tensor: keras.KerasTensor) -> tf.DType:
    """Returns the dtype in which a signature takes a tensor: int32 for integers and truth values, otherwise float32."""
    return tf.int32 if is_integer(tensor) else tf.float32


def _cast(value: tf.Tensor, dtype: str) -> tf.Tensor:
    return tf.not_equal(value, 0) if dtype == "bool" and value.dtype != tf.bool else tf.cast(value, dtype)


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
