"""What `config.json` inside a .tflite must hold. Imports neither TensorFlow nor Keras."""

import os
from collections.abc import Callable
from typing import Any, Final

from keras_seq.errors import shortened
from keras_seq_export.errors import BundleError
from keras_seq_export.learning_rule import LARGEST_RATE

CONFIG = "config.json"
FORMAT = 2  # its version


def require_config(path: str | os.PathLike[str], config: Any, size: int) -> None:
    """Requires each value of a configuration that this package reads to have its type.

    Args:
        path: the file, for error messages.
        config: the value of the JSON inside the file.
        size: bytes of the file.

    Raises:
        BundleError: the configuration is of another format, a value is missing, or one has another type.
    """
    if not isinstance(config, dict) or type(config.get("format")) is not int or config["format"] != FORMAT:
        received = config.get("format") if isinstance(config, dict) else config
        raise BundleError(
            f"{path} must have the bundle format {FORMAT}. Received: {shortened(repr(received))}; "
            "export it again, or update keras_seq"
        )
    for name, (expected, is_valid) in _VALUES.items():
        if name not in config and name not in _REQUIRED:
            continue
        if name not in config or not is_valid(config[name]):
            received = shortened(repr(config[name])) if name in config else "nothing"
            raise BundleError(
                f"{path} has a damaged bundle: `{name}` in {CONFIG} must be {expected}. Received: {received}"
            )
    if config["model_bytes"] > size:
        raise BundleError(f"{path} is truncated: it has {size} bytes, but its model has {config['model_bytes']}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _are(kind: type) -> Callable[[Any], bool]:
    """Returns a function that says whether a value is a list with one entry or more of a type."""
    return lambda value: isinstance(value, list) and bool(value) and all(type(one) is kind for one in value)


def _is_object(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_valid, value.values()))


def _is_learning(value: Any) -> bool:
    rate = value.get("rate") if isinstance(value, dict) else None
    return isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate <= LARGEST_RATE


_REQUIRED: Final = ("model_bytes", "batch", "state", "sampling")
_VALUES: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "model_bytes": ("a positive integer", _is_count),
    "batch": ("a positive integer", _is_count),
    "state": ('"explicit" or "internal"', lambda value: value in ("explicit", "internal")),
    "sampling": ("an object", _is_object(lambda value: True)),
    "inputs": ("a list of strings", _are(str)),
    "outputs": ("a list of strings", _are(str)),
    "delays": ("a list of integers", _are(int)),
    "at_once": ("an object of strings or null", _is_object(lambda value: isinstance(value, str | None))),
    "learning": (f"an object with a positive `rate`, at most {LARGEST_RATE:,.0f}", _is_learning),
    "ranges": ("an object of pairs of integers", _is_object(lambda value: _are(int)(value) and len(value) == 2)),
}
