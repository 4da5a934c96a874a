"""One training, in one process or as one of several workers: `python fits.py KIND FILE`; what came of it goes into the file."""

import sys

import keras
import numpy as np
import tensorflow as tf

import keras_seq as ks
from keras_seq import distribution
from keras_seq.batches import Lines
from keras_seq.stateful import read_states

TEXT = "the cats, which already ate the apple, were full.\nthe cat was not.\n" * 40
VOCABULARY = ks.Vocabulary.from_text(TEXT)
STEPS = 50
CASES = {
    "sgd": (lambda: keras.optimizers.SGD(0.5), False),
    "clipnorm": (lambda: keras.optimizers.SGD(0.5, clipnorm=0.05), False),
    "global_clipnorm": (lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.1), True),
    "clipvalue": (lambda: keras.optimizers.SGD(0.5, clipvalue=0.001), False),
    "adam": (lambda: keras.optimizers.Adam(0.01, clipnorm=0.1), False),
}


class Losses(keras.callbacks.Callback):
    """The loss of each batch."""

    def on_train_begin(self, logs=None):
        self.losses, self._before = [], (0.0, 0.0)

    def on_train_batch_end(self, batch, logs=None):
        total = (batch + 1) * logs["loss"]  # Keras shows the mean of the epoch so far.
        self.losses.append(total - self._before[0])
        self._before = (total, batch)


def fit(case, strategy=None):
    """Returns what a training of 50 steps of 8 rows leaves: weights, losses, norms and carried states."""
    optimizer, by_line = CASES[case]
    keras.utils.set_random_seed(0)
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    with distribution.scope(strategy or tf.distribute.get_strategy()):
        model = ks.language_model(len(VOCABULARY), units=[16], embedding_dim=8)
        model = model if by_line else ks.stateful_copy(model, 8 // replicas)
        if strategy is not None:
            distribution.distributed(model)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
        model.compile(optimizer(), loss, weighted_metrics=[ks.NatsPerToken()], jit_compile=False)
    data = Lines(TEXT, VOCABULARY, 8, seed=0).from_batch(0) if by_line else ks.streams(TEXT, VOCABULARY, 8, 6)
    losses, norms = Losses(), ks.GradientNorms()
    fitted = model.fit(data, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=[losses, norms])
    return {
        **{f"weight{number}": weight for number, weight in enumerate(model.get_weights())},
        **{f"state{number}": state for number, state in enumerate(read_states(model))},
        "losses": np.array(losses.losses),
        "norms": np.array(norms.norms),
        "nats": np.array(fitted.history["nats"]),
    }


def main():
    kind, path = sys.argv[1:]
    devices = None
    if kind == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        devices = ["CPU:0", "CPU:1"]
    strategy = distribution.strategy(kind, devices)
    assert strategy.num_replicas_in_sync == 2
    found = {f"{case}/{name}": value for case in CASES for name, value in fit(case, strategy).items()}
    np.savez(path, **found)


if __name__ == "__main__":
    main()
