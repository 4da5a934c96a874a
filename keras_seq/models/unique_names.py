"""Unique names for the layers of a model, and for the inputs and outputs of a step."""

import itertools
import re
from collections.abc import Iterable
from typing import Any

import keras


class UniqueNames:
    """Gives layers unique names, as a model requires: layers of nested models can share one.

    Args:
        taken: names that no layer may have, such as those of the inputs.
    """

    def __init__(self, taken: Iterable[str]):
        self._taken = set(taken)
        self._named: dict[int, Any] = {}

    def __call__(self, operation: Any) -> Any:
        """Returns `operation`, or the same operation under another name if its name is taken. The result is cached."""
        if id(operation) not in self._named:
            name = self.unique(operation.name)
            self._named[id(operation)] = operation if name == operation.name else _Renamed(operation, name)
        return self._named[id(operation)]

    def unique(self, name: str) -> str:
        """Returns a name of letters, digits and underscores, with a number if it is taken."""
        stem = re.sub(r"\W", "_", name, flags=re.ASCII)
        if stem in ("token", "frame") or stem.startswith("state_"):
            stem = f"layer_{stem}"  # The inputs have these names.
        names = (f"{stem}_{number}" if number else stem for number in itertools.count())
        free = next(name for name in names if name not in self._taken)
        self._taken.add(free)
        return free


class _Renamed(keras.layers.Layer):
    """A layer or operation under another name."""

    def __init__(self, operation: Any, name: str):
        super().__init__(name=name, autocast=False)
        self.operation = operation
        self.supports_masking = getattr(operation, "supports_masking", False)
        self.built = True

    def call(self, *inputs: Any, **options: Any) -> Any:
        return self.operation(*inputs, **options)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self.operation.compute_mask(inputs, previous_mask)
