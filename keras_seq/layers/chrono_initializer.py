"""`ChronoInitializer`: a bias that makes an untrained GRU keep its memory for many steps."""

import math
import random
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_seq import require
from keras_seq.errors import ArgumentError


@keras.saving.register_keras_serializable(package="keras_seq")
class ChronoInitializer(keras.initializers.Initializer):
    """Initializes a GRU's bias so that each unit initially keeps its memory for a different number of steps.

    A unit that multiplies its memory by a constant `keep` at each step forgets it over about L = 1 / (1 - keep) steps.
    The bias log(L - 1) gives it L steps, where L is drawn uniformly from 2 to `longest`. The biases of relevance and
    candidate are 0. This is the chrono initialization of Tallec & Ollivier 2018 (arXiv 1804.11188), who write it for Γu,
    with the other sign.

    Args:
        longest: largest number of steps between an input and the output that depends on it, at least 2.
        gates: number of blocks of the bias: 3, or 2 for a GRU with `reset_gate=False`.
        seed: seed of the draw; None takes one from Python's `random`.

    Raises:
        ArgumentError: `longest` is below 2 or infinite, or `gates` is not 2 or 3.

    Example:
        >>> import keras_seq as ks
        >>> layer = ks.GRU(4, bias_initializer=ChronoInitializer(longest=100))
    """

    def __init__(self, longest: float, gates: int = 3, seed: int | None = None):
        in_range = require.is_number(longest) and 2 <= longest < math.inf
        require.that(in_range, "longest", "a finite number of steps of at least 2", longest)
        require.that(gates in (2, 3), "gates", "3, or 2 without a reset gate", gates)
        self.longest = longest
        self.gates = gates
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Returns a bias of the shape that a GRU requests: `(gates * units,)` or `(2, gates * units)`."""
        if shape[-1] % self.gates or tuple(shape[:-1]) not in ((), (2,)):
            raise ArgumentError("shape", f"that of the bias of a GRU with {self.gates} blocks", tuple(shape))
        units = shape[-1] // self.gates
        bias = np.zeros(shape)
        # As in the initializers of Keras, a missing seed comes from Python: `keras.utils.set_random_seed` sets it.
        seed = random.getrandbits(32) if self.seed is None else self.seed
        steps = np.random.default_rng(seed).uniform(2, self.longest, units)
        # With two biases, which are added, the input's gets the value.
        bias.reshape(-1, shape[-1])[0, :units] = np.log(steps - 1)
        return ops.convert_to_tensor(bias, dtype=dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"longest": self.longest, "gates": self.gates, "seed": self.seed}
