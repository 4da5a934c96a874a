"""`ChronoInitializer`: a bias with which a GRU starts out remembering."""

import math
import random
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_seq")
class ChronoInitializer(keras.initializers.Initializer):
    """Draws a GRU's bias so that it starts out remembering, each unit for another while of 2 to `longest` steps.

    A unit that keeps its memory with z = 1 - Γu forgets over about L = 1 / (1 - z) steps, so the bias log(L - 1) makes
    it remember for L. L is drawn uniformly; the biases of the other gates are 0. This is the chrono initialization of
    Tallec & Ollivier 2018 (arXiv 1804.11188), who write it for Γu, with the other sign.

    Args:
        longest: how many steps there may be between what is remembered and where it is needed, 2 or more.
        gates: how many blocks the bias has: 3, or 2 for a GRU with `reset_gate=False`.
        seed: seed of the draw; None takes one from Python's `random`.

    Raises:
        ValueError: `longest` is below 2 or infinite, or `gates` not 2 or 3.

    Example:
        >>> layer = GRU(4, bias_initializer=ChronoInitializer(longest=100))
    """

    def __init__(self, longest: float, gates: int = 3, seed: int | None = None):
        if not isinstance(longest, int | float | np.number) or not 2 <= longest < math.inf:
            raise ValueError(f"`longest` must be 2 steps or more, and finite. Received: longest={longest!r}")
        if gates not in (2, 3):
            raise ValueError(f"`gates` must be 3, or 2 without a reset gate. Received: gates={gates!r}")
        self.longest = longest
        self.gates = gates
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Returns a bias of the shape that a GRU asks for: `(gates * units,)`, or `(2, gates * units)`."""
        if shape[-1] % self.gates or tuple(shape[:-1]) not in ((), (2,)):
            raise ValueError(
                f"ChronoInitializer is for the bias of a GRU of {self.gates} blocks. Received: shape={tuple(shape)}"
            )
        units = shape[-1] // self.gates
        bias = np.zeros(shape)
        # Without a seed by Python's random numbers, as in Keras's own: `keras.utils.set_random_seed` seeds them.
        seed = random.getrandbits(32) if self.seed is None else self.seed
        lasting = np.random.default_rng(seed).uniform(2, self.longest, units)
        # Of two biases, the input's: they add up.
        bias.reshape(-1, shape[-1])[0, :units] = np.log(lasting - 1)
        return ops.convert_to_tensor(bias, dtype=dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"longest": self.longest, "gates": self.gates, "seed": self.seed}
