"""Importing this module registers all layers with Keras, which finds them by their names in files of models."""

import keras_seq.layers.add_bias
import keras_seq.layers.gru
import keras_seq.layers.keras2_hard_sigmoid
import keras_seq.layers.lstm
import keras_seq.layers.ngram_embedding
import keras_seq.layers.simple_rnn  # noqa: F401
