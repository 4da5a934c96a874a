"""Small models of a text, for the tests of what is exported."""

import keras
import numpy as np

import keras_seq as ks
from keras_seq_export import export_tflite

TEXT = "To be, or not to be: that is the question.\nWhether 'tis nobler in the mind to suffer\n" * 3


LINE = "to be, or not to be: that is the question\n"
VOCABULARY = ks.Vocabulary.from_text(LINE)


def two_layers():
    """Returns a new model of the line, always the same."""
    keras.utils.set_random_seed(1)
    return ks.language_model(len(VOCABULARY), units=[16, 12], embedding_dim=8)


def tiny_model(vocabulary, seed=1, **options):
    """Returns a new model of any vocabulary."""
    keras.utils.set_random_seed(seed)
    model = ks.language_model(len(vocabulary), **{"units": [16], "embedding_dim": 8} | options)
    # As sure of itself as a trained model: fresh weights give nearly the same probability to every token.
    model.set_weights([weight * 4 for weight in model.get_weights()])
    return model


def export_small_tflite(folder, level="char", units=(24, 16), **options):
    """Returns the path of a .tflite of a new model, as sure of itself as a trained one."""
    vocabulary = ks.Vocabulary.from_text(TEXT, level=level)
    keras.utils.set_random_seed(1)
    model = ks.language_model(len(vocabulary), units=list(units), embedding_dim=12)
    model.set_weights([weight * 3 for weight in model.get_weights()])
    bias = model.get_layer("logits").bias
    bias.assign(
        bias.numpy() - 3.5 * (np.arange(len(vocabulary)) == vocabulary.eos_id)
    )  # Most texts are long; a few end.
    path = folder / f"{level}.tflite"
    export_tflite(model, vocabulary, path, held_out=TEXT, **options)
    return path


def prompts():
    """20 prompts with settings and seeds, for every runtime to write the same texts after."""
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
