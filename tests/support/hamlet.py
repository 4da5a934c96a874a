"""Small models of two lines of Hamlet, for the tests of exports."""

import json
from unittest import mock

import keras
import numpy as np

import keras_seq as ks
from keras_seq_export import export_tflite
from keras_seq_export.tflite import conversion

TEXT = "To be, or not to be: that is the question.\nWhether 'tis nobler in the mind to suffer\n" * 3
LINE = "to be, or not to be: that is the question\n"
VOCABULARY = ks.Vocabulary.from_text(LINE)

# A model whose matrices are large enough to be quantized, and whose rows are whole blocks.
WIDE = {"units": (64,), "embedding_dim": 32}
# A model of each cell, in which rounding does not grow from step to step.
STABLE = {"units": (32,), "embedding_dim": 32, "weight_scale": 1}


def two_layers():
    """Returns a new model of `LINE`, always with the same weights."""
    keras.utils.set_random_seed(1)
    return ks.language_model(len(VOCABULARY), units=[16, 12], embedding_dim=8)


def tiny_model(vocabulary, seed=1, **options):
    """Returns a new model for any vocabulary."""
    keras.utils.set_random_seed(seed)
    model = ks.language_model(len(vocabulary), **{"units": [16], "embedding_dim": 8} | options)
    # Peaked distributions like those of a trained model: fresh weights give all tokens nearly the same probability.
    model.set_weights([weight * 4 for weight in model.get_weights()])
    return model


def small_model(level="char", units=(24, 16), embedding_dim=12, weight_scale=3, **options):
    """Returns a new model of `TEXT` with its vocabulary, always with the same weights; large ones make it peaked."""
    vocabulary = ks.Vocabulary.from_text(TEXT, level=level)
    keras.utils.set_random_seed(1)
    model = ks.language_model(len(vocabulary), units=list(units), embedding_dim=embedding_dim, **options)
    model.set_weights([weight * weight_scale for weight in model.get_weights()])
    bias = getattr(model.get_layer("logits"), "bias", None)  # None with tied embeddings.
    if bias is not None:  # Most texts are long; a few end with <eos>.
        bias.assign(bias.numpy() - 3.5 * (np.arange(len(vocabulary)) == vocabulary.eos_id))
    return model, vocabulary


_MODEL_OPTIONS = ("level", "cell", "units", "embedding_dim", "tie_embeddings", "weight_scale")
_CONVERTED = {}


def export_small_tflite(folder, quantization="none", max_loss=10.0, **options):
    """Exports a `small_model`; returns the path of the .tflite.

    TensorFlow's converter takes most of the time of an export. It runs once for all exports whose graphs are the same,
    such as the quantizations of a model.
    """
    model_options = {name: options.pop(name) for name in _MODEL_OPTIONS if name in options}
    model, vocabulary = small_model(**model_options)
    fixed = {name: options.get("sampling", {}).get(name) for name in ("bias", "allow_unk")}
    key = repr((sorted(model_options.items()), options.get("state"), options.get("batch"), fixed))
    convert = conversion._convert_to_builtins

    def convert_once(endpoints):
        if key not in _CONVERTED:
            _CONVERTED[key] = convert(endpoints)
        return _CONVERTED[key]

    path = folder / f"{model_options.get('level', 'char')}.tflite"
    with mock.patch.object(conversion, "_convert_to_builtins", convert_once):
        export_tflite(model, vocabulary, path, quantization=quantization, max_loss=max_loss, held_out=TEXT, **options)
    return path


def report_of(path):
    """Returns the report beside a .tflite."""
    return json.loads(path.with_name(f"{path.name}.report.json").read_text())


def prompts():
    """Yields 20 prompts with sampling options and seeds, which every runtime must continue with the same text."""
    settings = [
        {},
        {"temperature": 0.7},
        {"temperature": 1.2, "top_k": 5},
        {"top_p": 0.8, "min_p": 0.05},
        {"temperature": 0.0},
    ]
    for number in range(20):
        prompt = TEXT[number * 7 : number * 7 + number * 6]
        yield prompt, {"max_tokens": 100, "seed": number * 2**33 - number, **settings[number % len(settings)]}
