"""Files that learn, each exported once for the whole session."""

import keras
import pytest
from hamlet import STABLE, TEXT, VOCABULARY, WIDE, small_model, starting_model, tiny_model

import keras_seq as ks
from keras_seq_export import export_tflite

WORDS = ks.Vocabulary.from_text(TEXT + "and by opposing end them", level="word")  # 29 tokens
OPTIONS = {
    "stack": {},
    "lstm": {"cell": "lstm", "units": (16,)},
    "simple_rnn": {"cell": "simple_rnn", **STABLE},
    "wide": WIDE,
    "wide lstm": {"cell": "lstm", **WIDE},
}


def functional_model(dtype=None):
    """A model of Keras's own layers, with the same weights in any dtype."""
    keras.utils.set_random_seed(3)
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 8, dtype=dtype)(tokens)
    one = keras.layers.GRU(10, return_sequences=True, dtype=dtype)(values)
    other = keras.layers.LSTM(7, return_sequences=True, dtype=dtype)(one)
    both = keras.layers.Concatenate(dtype=dtype)([one, other])
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY), dtype=dtype)(both))
    model.set_weights([weight * 3 for weight in model.get_weights()])
    return model


def tied_model():
    """A model of words whose table of 29 embeddings is also the kernel of its logits."""
    return tiny_model(WORDS, units=[64], embedding_dim=64, tie_embeddings=True)


BROUGHT = {
    "functional": (functional_model, VOCABULARY),
    "mixed": (lambda: functional_model("mixed_float16"), VOCABULARY),
    "words": (tied_model, WORDS),
}


@pytest.fixture(scope="session")
def learning_file(small_tflite, made_once):
    """`learning_file(name, quantization)` returns a file that learns, and the Keras model whose logits it gives."""

    def named(name, quantization="none"):
        if name == "start":
            return small_tflite(starting=True, learn=True), starting_model()[0]
        if name in OPTIONS:
            options = OPTIONS[name]
            return small_tflite(quantization=quantization, learn=True, **options), small_model(**options)[0]

        def make(folder):
            build, vocabulary = BROUGHT[name]
            path = folder / f"{name}.tflite"
            export_tflite(build(), vocabulary, path, quantization=quantization, max_loss=10, learn=True)
            return path

        model = functional_model() if name == "mixed" else BROUGHT[name][0]()
        return made_once(f"learns-{name}-{quantization}", make), model

    return named
