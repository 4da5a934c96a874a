"""The states before the first step of each row of a request: those of the model, or those that its encoder gives."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from keras_seq_export.graph.encoder import encode_endpoint, length_name
from keras_seq_export.graph.endpoints import Endpoint, named_states
from keras_seq_export.graph.limits import Limits, most_rows
from keras_seq_export.graph.request_checks import Inputs, check, checked_endpoint, id_check, real_tokens
from keras_seq_export.graph.step import GraphStep


class FirstStates:
    """Computes the states before the first step, for rows that may each have a source of another length.

    Args:
        step: the model.

    Attributes:
        specs: the inputs of `encode`, which the other signatures take too; none without an encoder.
    """

    def __init__(self, step: GraphStep):
        self._step = step
        self._inputs = step.stepped.inputs_at_once if step.has_encoder else []
        self.specs: list[tf.TensorSpec] = []
        if step.has_encoder:
            self._encode, self.specs = encode_endpoint(step, batch=None, source_steps=None)

    def __call__(self, rows: tf.Tensor, at_once: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the states, each `(rows, units)`, given a value for each of `specs`."""
        if not self._inputs:
            return self._step.initial_states(rows)
        given = dict(zip([spec.name for spec in self.specs], at_once, strict=True))
        for one in self._inputs:
            length = length_name(one, self._inputs)
            if one.is_token and length is not None:  # An invalid id in the padding must fail no batch.
                given[one.name] = real_tokens(given[one.name], given[length])
        return list(self._encode(*given.values()).values())

    def checks(self, inputs: Inputs) -> Iterator[tf.Operation]:
        """Yields the checks of the inputs of `encode`."""
        for one in self._inputs:
            values, name = inputs[one.name], length_name(one, self._inputs)
            if name is not None:
                length, longest = inputs[name], tf.shape(values)[1]
                in_range = (length >= 1) & (length <= longest)
                yield check(in_range, f"`{name}` must be from 1 to the number of frames of `{one.name}`.", length)
                values = real_tokens(values, length) if one.is_token else values
            if one.token_count is not None:
                yield id_check(one.name, values, one.token_count)

    def size_checks(self, inputs: Inputs, limits: Limits) -> Iterator[tf.Operation]:
        """Yields the checks of the lengths of the sources."""
        for one in self._inputs:
            if one.has_length:
                yield from limits.sequence_checks(one.name, inputs[one.name])

    def encode_endpoint(self, limits: Limits) -> Endpoint:
        """Returns the function and the input signature of `encode`."""

        def encode(*at_once: tf.Tensor) -> dict[str, tf.Tensor]:
            return named_states(self(tf.shape(at_once[0])[0], at_once))

        return checked_endpoint(
            (encode, self.specs),
            {},
            self.checks,
            lambda inputs: self.size_checks(inputs, limits),
            most_rows(self._step),
        )
