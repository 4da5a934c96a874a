"""The activation that Keras 2 called `hard_sigmoid`. Keras 3 has another one under the same name."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_seq")
def keras2_hard_sigmoid(x: Any) -> Any:
    """Returns `0.2 * x + 0.5`, not below 0 and not above 1. The slope of Keras 3's `hard_sigmoid` is 1/6.

    Example:
        >>> keras2_hard_sigmoid(ops.convert_to_tensor([-3.0, 0.0, 1.25, 3.0])).numpy().tolist()
        [0.0, 0.5, 0.75, 1.0]
    """
    return ops.clip(0.2 * x + 0.5, 0, 1)
