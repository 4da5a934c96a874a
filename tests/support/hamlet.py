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
CATS = ks.Vocabulary.from_text("the cats were full")

# A model whose matrices are large enough to be quantized, and whose rows are whole blocks.
WIDE = {"units": (64,), "embedding_dim": 32}
# A model whose logits depend on the last four tokens, through a table that is large enough to be quantized.
NGRAMS = {"ngrams": 4, "ngram_rows": 307}
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


def vocabulary_of(level):
    """Returns the vocabulary of `TEXT`; split at white space, one as others make them, without the last of its words."""
    if level != "whitespace":
        return ks.Vocabulary.from_text(TEXT, level=level)
    return ks.Vocabulary.from_tokens(["", "[UNK]", *sorted(set(TEXT.split()))[:-1], "<s>", "<eos>"])


def small_model(level="char", units=(24, 16), embedding_dim=12, weight_scale=3, **options):
    """Returns a new model of `TEXT` with its vocabulary, always with the same weights; large ones make it peaked."""
    vocabulary = vocabulary_of(level)
    keras.utils.set_random_seed(1)
    model = ks.language_model(len(vocabulary), units=list(units), embedding_dim=embedding_dim, **options)
    return _peaked(model, vocabulary, weight_scale), vocabulary


def _peaked(model, vocabulary, weight_scale):
    """Scales the weights of a new model; returns the model."""
    model.set_weights([weight * weight_scale for weight in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, ks.NgramEmbedding):  # Its vectors begin much smaller than other weights.
            layer.set_weights([weight * 50 for weight in layer.get_weights()])
    bias = model.get_layer("logits").bias  # Most texts are long; a few end with <eos>.
    bias.assign(bias.numpy() - 3.5 * (np.arange(len(vocabulary)) == vocabulary.eos_id))
    return model


class StartingCell(keras.layers.LSTMCell):
    """An LSTM cell whose two states begin at the same values, from -1 to 1."""

    def get_initial_state(self, batch_size=None):
        values = keras.ops.linspace(-1.0, 1.0, self.units, dtype=self.compute_dtype)
        return 2 * [keras.ops.tile(values[None], (batch_size, 1))]


def starting_model(level="char"):
    """Returns a new model of `TEXT` whose states do not begin at zero, with its vocabulary."""
    vocabulary = ks.Vocabulary.from_text(TEXT, level=level)
    keras.utils.set_random_seed(1)
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(len(vocabulary), 12)(tokens)
    values = keras.layers.RNN(StartingCell(16), return_sequences=True)(embedded)
    model = keras.Model(tokens, keras.layers.Dense(len(vocabulary), name="logits")(values))
    return _peaked(model, vocabulary, weight_scale=3), vocabulary


_MODEL_OPTIONS = ("level", "cell", "units", "embedding_dim", "tie_embeddings", "weight_scale", "ngrams", "ngram_rows")


def export_small_tflite(folder, converted, quantization="none", max_loss=10.0, **options):
    """Exports a `small_model`, or the `starting_model` with `starting=True`; returns the path of the .tflite.

    TensorFlow's converter takes most of the time of an export. Exports whose graphs are the same, such as the
    quantizations of a model, have the same key: `converted(key, convert)` returns what `convert()` returns, and need not
    call it again for a key.
    """
    model_options = {name: options.pop(name) for name in _MODEL_OPTIONS if name in options}
    starting = options.pop("starting", False)
    model, vocabulary = starting_model(**model_options) if starting else small_model(**model_options)
    fixed = {name: options.get("sampling", {}).get(name) for name in ("bias", "allow_unk")}
    key = repr(
        (
            starting,
            sorted(model_options.items()),
            options.get("state"),
            options.get("batch"),
            options.get("gates"),
            options.get("learn"),
            quantization == "integer",  # Such a file has other signatures.
            fixed,
        )
    )
    convert = conversion._convert_to_builtins

    path = folder / f"{model_options.get('level', 'char')}.tflite"
    with mock.patch.object(conversion, "_convert_to_builtins", lambda ends: converted(key, lambda: convert(ends))):
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
