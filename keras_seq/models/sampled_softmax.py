"""Training over a large vocabulary with a sampled softmax (Jean et al. 2015, arXiv 1412.2007).

The logits are most of the work of a word model: at 10,000 words and 256 units, four fifths of a training step. A sampled
softmax computes the logits of only a few tokens. They are sampled for each batch and shared by all of its positions. The
loss at a position is the cross-entropy of the target among these tokens and itself, where the logarithm of each token's
expected count is subtracted from its logit. Evaluation stays exact.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_seq import require
from keras_seq.errors import ModelError
from keras_seq.keras_internals import additional_loss, call_that_made
from keras_seq.layers.add_bias import AddBias
from keras_seq.models.token_weights import token_weights


class SampledSoftmax(keras.Model):
    """A language model that trains with a sampled softmax. It shares all layers with `model`, which learns with it.

    `fit` minimizes an estimate of the cross-entropy, regardless of the loss given to `compile`, and reports it as `loss`.
    Metrics are exact. In training they cover the last token of each row; in `evaluate` and validation, all tokens. Save
    `model` instead of this model.

    Tokens are sampled from the log-uniform distribution of TensorFlow's `log_uniform_candidate_sampler`. It suits
    vocabularies in order of falling frequency, such as those of `Vocabulary.from_text`.

    The bias of the logits, if there is one, is added to those of the sampled tokens too.

    Args:
        model: a model with tied embeddings, as `keras_seq.language_model(..., tie_embeddings=True)` returns it. With a
            separate kernel for the logits, training was slower and diverged at learning rates that tied embeddings
            tolerate (docs/decisions/sampled-softmax.md).
        samples: number of tokens to sample for each batch.
        seed: seed of the samples. The state of the generator is a variable of the model, so that a resumed run samples
            the same tokens.

    Raises:
        ArgumentError: `samples` is not between 0 and the number of tokens.
        ModelError: the embeddings of `model` are not tied.

    Example:
        >>> import keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be " * 30, level="word")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=8, tie_embeddings=True)
        >>> trained = SampledSoftmax(model, samples=4)
        >>> trained.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = trained.fit(ks.streams("to be " * 30, vocabulary, 2, 6), shuffle=False, verbose=0)
        >>> ks.sample(model, vocabulary, max_tokens=3, seed=7) == ks.sample(trained, vocabulary, max_tokens=3, seed=7)
        True
    """

    _samples: int
    _tokens: int
    _seeds: keras.random.SeedGenerator
    _memories: Callable[[Any], Any]
    _kernel: Callable[[], Any]
    _bias: Callable[[], Any]

    def __init__(self, model: keras.Model, samples: int, seed: int = 0):
        super().__init__(inputs=model.input, outputs=model.output, name=f"{model.name}_sampled")
        tokens = model.output_shape[-1]
        expected = f"an integer above 0 and below the {tokens} tokens of the vocabulary"
        require.that(require.is_integer(samples) and 0 < samples < tokens, "samples", expected, samples)
        self._samples, self._tokens = samples, tokens
        self._seeds = keras.random.SeedGenerator(seed % 2**31)
        memories, embedding, bias = _tied_embedding(model)
        memory_model = keras.Model(model.input, memories)
        # Stored in functions, because Keras would track layers in attributes a second time.
        self._memories = lambda inputs: memory_model(inputs, training=True)
        self._kernel = lambda: embedding.embeddings.value
        self._bias = lambda: tf.cast(tf.zeros(tokens) if bias is None else bias.value, self._kernel().dtype)

    def get_config(self) -> dict[str, Any]:
        """Refuses to be saved."""
        raise ModelError(
            "a SampledSoftmax cannot be saved: save the model that it was created from, which learns with it"
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Returns the logits `(batch, time, tokens)`; in training `{"memories": (batch, time, units)}` in their place."""
        if training:
            return {"memories": self._memories(inputs)}
        return super().call(inputs, training=training, mask=mask)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the loss of the sampled softmax in training, and the exact loss otherwise."""
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        kernel = tf.convert_to_tensor(self._kernel())
        memories = tf.cast(y_pred["memories"], kernel.dtype)
        # The metrics need the logits of the kernel as it is now; they are computed after it has been updated.
        weights = token_weights(ops.shape(memories)[:-1], sample_weight)
        last_memories = _at_last_token(memories, weights)
        last_logits = tf.matmul(last_memories, tf.stop_gradient(kernel), transpose_b=True)
        y_pred["last_logits"] = last_logits + tf.stop_gradient(self._bias())
        losses = self._sampled_losses(tf.reshape(memories, (-1, memories.shape[-1])), tf.reshape(y, (-1,)))
        weights = tf.cast(tf.reshape(weights, (-1,)), losses.dtype)
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))
        return loss + additional_loss(self)

    def _sampled_losses(self, memories: Any, targets: Any) -> Any:
        """Returns the cross-entropy of each target among the sampled tokens, `(positions,)`.

        Args:
            memories: `(positions, units)`.
            targets: token ids, `(positions,)`.
        """
        targets, sampled = tf.cast(targets, tf.int64), self._sample()
        target_logits = tf.reduce_sum(memories * tf.gather(self._kernel(), targets), axis=-1)
        target_logits += tf.gather(self._bias(), targets)
        sampled_logits = tf.matmul(memories, tf.gather(self._kernel(), sampled), transpose_b=True)
        sampled_logits += tf.gather(self._bias(), sampled)
        target_logits -= tf.math.log(self._expected_count(targets, memories.dtype))
        sampled_logits -= tf.math.log(self._expected_count(sampled, memories.dtype))
        # A target that is also among the sampled tokens counts once.
        sampled_logits = tf.where(targets[:, None] == sampled[None], sampled_logits.dtype.min, sampled_logits)
        return tf.reduce_logsumexp(tf.concat([target_logits[:, None], sampled_logits], axis=1), axis=1) - target_logits

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Returns the metrics; in training, of the last token of each row."""
        if not isinstance(y_pred, dict):
            return super().compute_metrics(x, y, y_pred, sample_weight)
        weights = token_weights(ops.shape(y_pred["memories"])[:-1], sample_weight)
        last_weights = _at_last_token(weights, weights)
        return super().compute_metrics(x, _at_last_token(y, weights), y_pred["last_logits"], last_weights)

    def _sample(self) -> Any:
        """Returns token ids `(samples,)`; a token may be sampled more than once."""
        uniform = tf.random.stateless_uniform((self._samples,), self._seeds.next(), dtype=tf.float32)
        sampled = tf.cast(tf.exp(uniform * np.log(self._tokens + 1)), tf.int64) - 1
        return tf.clip_by_value(sampled, 0, self._tokens - 1)

    def _expected_count(self, tokens: Any, dtype: Any) -> Any:
        """Returns how often each of some tokens is expected among the sampled ones."""
        ids = tf.cast(tokens, tf.float64)
        return tf.cast(self._samples * tf.math.log1p(1 / (ids + 1)) / np.log(self._tokens + 1), dtype)


def _at_last_token(values: Any, weights: Any) -> Any:
    """Returns `(batch, 1, ...)`, the values `(batch, time, ...)` at the last position of each row with a weight."""
    last = tf.reduce_max(tf.where(weights != 0, tf.range(tf.shape(weights)[1]), 0), axis=1, keepdims=True)
    return tf.gather(values, last, axis=1, batch_dims=1)


def _tied_embedding(model: keras.Model) -> tuple[Any, keras.layers.Layer, keras.Variable | None]:
    """Returns the symbolic tensor that tied embeddings turn into logits, the embedding layer, and the bias of the logits.

    Raises:
        ModelError: another layer makes the logits.
    """
    call, bias = call_that_made(model.output), None
    if isinstance(call.operation, AddBias):
        call, bias = call_that_made(call.inputs[0]), call.operation.bias
    if not isinstance(call.operation, keras.layers.ReversibleEmbedding):
        raise ModelError(
            "a sampled softmax needs a model whose embeddings are also the kernel of its logits: create it with "
            f"tie_embeddings=True. Received: logits made by {call.operation.name!r} ({type(call.operation).__name__})"
        )
    return call.inputs[0], call.operation, bias
