"""`AddBias`: the bias of logits that tied embeddings compute."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_seq")
class AddBias(keras.layers.Layer):
    """Adds a trained number to each feature of its inputs, `(..., features)`; the numbers begin at 0.

    `keras.layers.ReversibleEmbedding` computes logits without a bias.

    Example:
        >>> import numpy as np
        >>> AddBias()(np.ones((2, 3), "float32")).shape
        TensorShape([2, 3])
    """

    def build(self, input_shape: Any) -> None:
        """Creates the bias `(features,)`."""
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """Returns the sums."""
        return inputs + self.bias
