"""Training over a large vocabulary with a softmax over the target and a few other tokens in place of all (Jean et al. 2015).

Of a word model the logits are most of the work: at 10,000 words and 256 units, four fifths of a training step. Here tokens are
drawn for each batch, the same for all its places, and the loss at a place is the cross-entropy of its target among them, each
logit less the logarithm of how often its token is expected there. Evaluation stays exact.
"""

import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class SampledSoftmax(keras.Model):
    """A language model that is trained with a sampled softmax; it has the layers of `model`, which learns with it.

    `fit` minimizes an estimate of the cross-entropy, whatever the loss of `compile` is, and shows it as `loss`. Metrics
    are exact: in training those of the last token of each row, in `evaluate` and validation those of all. Save `model`.

    Jean et al. 2015, arXiv 1412.2007, section 3; the tokens are drawn with the log-uniform distribution of TensorFlow's
    `log_uniform_candidate_sampler`, which fits vocabularies by falling frequency, as `Vocabulary.from_text` makes them.

    Args:
        model: as `keras_seq.language_model(..., tie_embeddings=True)` makes it. With a kernel of its own for the logits the
            training was slower, and diverged at learning rates that tied embeddings take (BUILD.md).
        samples: tokens drawn for each batch.
        seed: of the draws. The state is a variable of the model, so that a resumed run draws what it would have drawn.

    Raises:
        ValueError: `samples` is out of range, or the model has no such layer.

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

    def __init__(self, model: keras.Model, samples: int, seed: int = 0):
        super().__init__(inputs=model.input, outputs=model.output, name=f"{model.name}_sampled")
        tokens = model.output_shape[-1]
        if isinstance(samples, bool) or not isinstance(samples, numbers.Integral) or not 0 < samples < tokens:
            raise ValueError(
                f"`samples` must be an integer above 0 and below the {tokens} tokens of the vocabulary. Received: {samples!r}"
            )
        self._samples, self._tokens = samples, tokens
        self._seeds = keras.random.SeedGenerator(seed % 2**31)
        before, embedding = _before_logits(model)
        below = keras.Model(model.input, before)
        # In functions, Keras does not see the layers a second time.
        self._memories = lambda inputs: below(inputs, training=True)
        self._kernel = lambda: embedding.embeddings.value

    def get_config(self) -> dict[str, Any]:
        """Refuses to be saved."""
        raise ValueError("a SampledSoftmax is not saved: save the model that it was made of, which learns with it")

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Returns the logits `(batch, time, tokens)`; in training of what they would be made, `{"memories": (batch, time, units)}`."""
        if training:
            return {"memories": self._memories(inputs)}
        return super().call(inputs, training=training, mask=mask)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the sampled softmax's loss in training, the exact one otherwise."""
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        kernel = tf.convert_to_tensor(self._kernel())
        memories = tf.cast(y_pred["memories"], kernel.dtype)
        # For the metrics, which are computed when the kernel has changed.
        y_pred["last"] = tf.matmul(_last(memories, sample_weight), tf.stop_gradient(kernel), transpose_b=True)
        memories = tf.reshape(memories, (-1, memories.shape[-1]))
        targets = tf.cast(tf.reshape(y, (-1,)), tf.int64)
        drawn = self._drawn()
        of_targets = tf.reduce_sum(memories * tf.gather(self._kernel(), targets), axis=-1)
        of_drawn = tf.matmul(memories, tf.gather(self._kernel(), drawn), transpose_b=True)
        of_targets -= tf.math.log(self._expected(targets, kernel.dtype))
        of_drawn -= tf.math.log(self._expected(drawn, kernel.dtype))
        # A target that is among those drawn counts once.
        of_drawn = tf.where(targets[:, None] == drawn[None], of_drawn.dtype.min, of_drawn)
        losses = tf.reduce_logsumexp(tf.concat([of_targets[:, None], of_drawn], axis=1), axis=1) - of_targets
        weights = (
            tf.ones_like(losses) if sample_weight is None else tf.cast(tf.reshape(sample_weight, (-1,)), losses.dtype)
        )
        loss = tf.reduce_sum(losses * weights) / tf.maximum(tf.reduce_sum(weights), 1)
        return loss + sum(self._aggregate_additional_loss(own) for own in self.losses)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Returns the metrics, in training of the last token of each row."""
        if not isinstance(y_pred, dict):
            return super().compute_metrics(x, y, y_pred, sample_weight)
        weights = None if sample_weight is None else _last(sample_weight, sample_weight)
        return super().compute_metrics(x, _last(y, sample_weight), y_pred["last"], weights)

    def _drawn(self) -> Any:
        """Returns the tokens drawn, `(samples,)`; one may be drawn more than once."""
        uniform = tf.random.stateless_uniform((self._samples,), self._seeds.next(), dtype=tf.float32)
        drawn = tf.cast(tf.exp(uniform * np.log(self._tokens + 1)), tf.int64) - 1
        return tf.clip_by_value(drawn, 0, self._tokens - 1)

    def _expected(self, tokens: Any, dtype: Any) -> Any:
        """Returns how often each of some tokens is expected among those drawn."""
        places = tf.cast(tokens, tf.float64)
        return tf.cast(self._samples * tf.math.log1p(1 / (places + 1)) / np.log(self._tokens + 1), dtype)


def _last(values: Any, sample_weight: Any) -> Any:
    """Returns what belongs to the last token of each row that counts, `(batch, 1, ...)`, of `(batch, time, ...)`."""
    if sample_weight is None:
        return values[:, -1:]
    place = tf.maximum(tf.math.count_nonzero(sample_weight, axis=1, keepdims=True) - 1, 0)
    return tf.gather(values, place, axis=1, batch_dims=1)


def _before_logits(model: keras.Model) -> tuple[Any, keras.layers.Layer]:
    """Returns the tensor of which tied embeddings make the logits, and the layer that has them."""
    made_by = model.output._keras_history
    if isinstance(made_by.operation, keras.layers.Activation):
        made_by = made_by.operation.input._keras_history
    if not isinstance(made_by.operation, keras.layers.ReversibleEmbedding):
        raise ValueError(
            "a sampled softmax needs a model whose embeddings are the kernel of its logits too: make it with tie_embeddings=True. "
            f"Received: logits made by {made_by.operation.name!r} ({type(made_by.operation).__name__})"
        )
    node = made_by.operation._inbound_nodes[made_by.node_index]
    return node.input_tensors[0], made_by.operation
