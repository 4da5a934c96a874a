"""One step of a model that learns on the device, and the signatures with which it does (`keras_seq_export.learning_rule`)."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq_export.graph.endpoints import Endpoint, named_states
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.learning_rule import BIAS, CANDIDATES, DECAY, LARGEST_NORM, SWITCH, nothing_learned
from keras_seq_export.signatures import (
    LEARN_STEPS,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_SHARES,
    LOGITS,
    MODEL_LOG_PROBABILITIES,
    NEXT_TOKENS,
    RATE,
    TOKENS,
    WEIGHTS,
)


class LearningStep(GraphStep):
    """The one-step decoder of a language model, plus what the model has learned, which variables hold.

    Args:
        model: see `GraphStep`.
        vocabulary: the vocabulary of the model.
        projection: P, float32 `(features - 1, units)`.

    Attributes:
        projection: P.
    """

    def __init__(self, model: keras.Model, vocabulary: Vocabulary, projection: np.ndarray):
        super().__init__(model, vocabulary)
        self.projection = projection
        # Where P is quantized, it has one scale, and so have the states: but units of an LSTM's memory may be a hundred times as
        # large as others. The converter would multiply P with the sizes of a single state.
        size = np.abs(projection).max(axis=0)
        self._scale = np.where(size > 0, size, 1).astype(np.float32)
        self._directions = projection / self._scale
        self._nothing = nothing_learned(len(vocabulary), len(projection) + 1)
        self._weights, self._log_shares = (tf.Variable(value, trainable=False) for value in self._nothing)
        self._read: tuple[tf.Tensor, tf.Tensor] | None = None

    def run(
        self, values: Sequence[tf.Tensor], states: Sequence[tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Does what `GraphStep.run` does, with the logits of the model that has learned."""
        outputs, new_states = super().run(values, states)
        weights, log_shares = self._learned()
        weight = tf.reduce_sum(tf.nn.softmax(log_shares) * CANDIDATES)
        return {LOGITS: outputs[LOGITS] + weight * self._delta(self._features(new_states), weights)}, new_states

    def _learned(self) -> tuple[tf.Tensor, tf.Tensor]:
        if self._read is None:
            raise RuntimeError("a signature of a model that learns must be made by `reading_once`")
        return self._read

    def _features(self, states: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns f `(1, features)` after the step that gave these states."""
        pairs = zip(states, np.split(self._scale, np.cumsum(self.units)[:-1]), strict=True)
        scaled = tf.concat([state * scale for state, scale in pairs], axis=1)
        projected = tf.matmul(scaled, self._directions, transpose_b=True)
        return tf.concat([projected, tf.fill([1, 1], np.float32(BIAS))], axis=1)

    def _delta(self, features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return tf.matmul(features, weights, transpose_b=True)

    def reading_once(self, endpoint: Endpoint) -> Endpoint:
        """Returns a signature that reads the variables at its beginning: LiteRT.js cannot read them inside a loop."""
        function, specs = endpoint

        def reading(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            self._read = self._weights.read_value(), self._log_shares.read_value()
            try:
                return function(*inputs)
            finally:
                self._read = None

        return reading, specs

    def learn_endpoint(self) -> Endpoint:
        """Returns `learn`, which learns from the first `length` of the tokens and of those that follow them."""

        def learn(
            tokens: tf.Tensor, next_tokens: tf.Tensor, length: tf.Tensor, rate: tf.Tensor, *states: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            weights, log_shares = self._learned()
            shares = tf.nn.softmax(log_shares)
            factors = tf.concat([[tf.reduce_sum(shares * CANDIDATES)], CANDIDATES], axis=0)[:, None]
            count = tf.clip_by_value(length, 1, LEARN_STEPS)[0]

            def advance(
                position: tf.Tensor, log_probabilities: tf.Tensor, gradient: tf.Tensor, *states: tf.Tensor
            ) -> tuple[tf.Tensor, ...]:
                outputs, new_states = GraphStep.run(self, [tf.gather(tokens, position, axis=1)], states)
                features, target = self._features(new_states), tf.gather(next_tokens, position, axis=1)
                every = tf.nn.log_softmax(outputs[LOGITS] + factors * self._delta(features, weights))
                error = tf.exp(every[-1:]) - tf.one_hot(target, every.shape[1])
                gradient += tf.matmul(error, features, transpose_a=True)
                here = tf.range(LEARN_STEPS) == position
                log_probabilities = tf.where(here[None], tf.gather(every, target, axis=1), log_probabilities)
                return position + 1, log_probabilities, gradient, *new_states

            _, log_probabilities, gradient, *states = tf.while_loop(
                lambda position, *_: position < count,
                advance,
                (tf.constant(0), tf.zeros([len(CANDIDATES) + 1, LEARN_STEPS]), tf.zeros_like(weights), *states),
            )
            kept = 1 - DECAY * tf.cast(count, tf.float32)
            weights = kept * weights - rate / LEARN_STEPS * gradient
            norm = tf.sqrt(tf.reduce_sum(tf.square(weights)))
            self._weights.assign(weights * (LARGEST_NORM / tf.maximum(norm, LARGEST_NORM)))
            shares = tf.nn.softmax(log_shares + tf.reduce_sum(log_probabilities[1:], axis=1))
            self._log_shares.assign(tf.math.log((1 - SWITCH) * shares + SWITCH / len(CANDIDATES)))
            found = {LOG_PROBABILITIES: log_probabilities[:1], MODEL_LOG_PROBABILITIES: log_probabilities[1:2]}
            return {**found, **named_states(states)}

        several = [tf.TensorSpec([1, LEARN_STEPS], tf.int32, name) for name in (TOKENS, NEXT_TOKENS)]
        settings = [tf.TensorSpec([1], tf.int32, LENGTH), tf.TensorSpec([1], tf.float32, RATE)]
        return self.reading_once((learn, [*several, *settings, *self.state_specs(1)]))

    def get_endpoint(self) -> Endpoint:
        """Returns `get_weights`, which returns what was learned."""
        return lambda: {WEIGHTS: self._weights.read_value(), LOG_SHARES: self._log_shares.read_value()}, []

    def set_endpoint(self) -> Endpoint:
        """Returns `set_weights`, which replaces it. It returns the shares, since LiteRT requires an output.

        They are read from the variable: the converter would make its input the output, and LiteRT's CompiledModel then
        stores what is in the buffer of that output.
        """

        def set_weights(weights: tf.Tensor, log_shares: tf.Tensor) -> dict[str, tf.Tensor]:
            self._weights.assign(weights)
            self._log_shares.assign(log_shares)
            return {LOG_SHARES: self._log_shares.read_value()}

        names = zip((WEIGHTS, LOG_SHARES), self._nothing, strict=True)
        return set_weights, [tf.TensorSpec(value.shape, tf.float32, name) for name, value in names]

    def reset_endpoint(self) -> Endpoint:
        """Returns `reset_weights`, which forgets what was learned."""
        set_weights, _ = self.set_endpoint()
        return lambda: set_weights(*map(tf.constant, self._nothing)), []
