"""The model card inside a .tflite: what a person wants to know about the model."""

import datetime
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_seq.version import __version__
from keras_seq_export.signatures import is_state
from keras_seq_export.tflite.bundle import CARD, parse_part, to_json
from keras_seq_export.tflite.integer.proof import IntegerProof
from keras_seq_export.tflite.quality import WINDOW, Quality
from keras_seq_export.tflite.report import ExportSettings
from keras_seq_export.tflite.signature import Signature


def require_card(card: Mapping[str, Any]) -> None:
    """Requires entries that JSON can hold.

    Raises:
        ValueError: `card` is not a dictionary, or holds a value that JSON cannot.
    """
    try:
        parse_part(CARD, to_json(dict(card)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"`card` must be a dictionary that can be written as JSON: {error}") from error


def model_card(
    model: keras.Model,
    settings: ExportSettings,
    decode: Signature | None,
    proof: IntegerProof | None,
    quality: Quality | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the entries that the user gave, with what is known of the model.

    Args:
        model: the model.
        settings: how it is exported.
        decode: the signature of a step, whose inputs enter the card; None for a file of text with float32 states.
        proof: in which runtimes a file of integers gives the same bits; None for another file.
        quality: how well the file predicts; only a measurement on held-out text enters the card.
        given: the user's entries; they replace `name` and `license`, but none of the others.
    """
    return {
        "name": model.name,
        "license": "not stated",
        **given,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "parameters": model.count_params(),
        "quantization": settings.quantization,
        **_described(decode, proof),
        "versions": {"keras_seq": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        **_measured(quality, settings.by_line),
    }


def _described(decode: Signature | None, proof: IntegerProof | None) -> dict[str, Any]:
    """Returns what a program that calls `decode` needs to know."""
    found: dict[str, Any] = {}
    if decode is not None:
        found["inputs"] = {name: str(tensor) for name, tensor in decode.inputs.items() if not is_state(name)}
    if proof is not None and proof.arena_bytes is not None:
        found["arena_bytes"] = proof.arena_bytes
    return found


def _measured(quality: Quality | None, by_line: bool) -> dict[str, Any]:
    if quality is None or quality.text != "held_out":
        return {}
    read = f"{quality.tokens:,} held-out tokens, {'by line' if by_line else f'in windows of {WINDOW}'}"
    return {"nats_per_token": round(quality.nats_of_file, 4), "measured_on": read}
