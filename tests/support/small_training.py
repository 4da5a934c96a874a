"""A short text, a small model of it and its configuration, for the tests of training.

The cell of the model is the one that takes least time to trace: these tests hold for any.
"""

import keras

import keras_seq as ks
from keras_seq.training.config import TrainConfig

TEXT = "abcd" * 120
VOCABULARY = ks.Vocabulary.from_text(TEXT)


def small_model():
    keras.utils.set_random_seed(0)
    return ks.language_model(len(VOCABULARY), cell="simple_rnn", units=[8], embedding_dim=4)


def data(batch_size=4, length=30):
    return ks.streams(TEXT, VOCABULARY, batch_size=batch_size, length=length)


def small_config(**changes):
    """A configuration without clipping, unless it is among the changes."""
    return TrainConfig(**{"clipping": None, "learning_rate": 6e-3, **changes})
