"""One training, in one process or as one of several workers: `python fits.py KIND FILE`; what came of it goes into the file."""

import sys

import keras
import numpy as np
import tensorflow as tf

import keras_seq as ks
from keras_seq import distribution
from keras_seq.data.lines import Lines
from keras_seq.models.stateful import read_states

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


def fit_weighted(strategy=None):
    """Returns the weights of a model of a user's own, with sample weights, Keras's usual reduction, and a penalty."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y, weights = rng.normal(size=(16, 3)), rng.normal(size=(16, 1)), np.repeat([1, 9], 8)
    found = {}
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        with distribution.scope(strategy or tf.distribute.get_strategy()):
            penalty = keras.regularizers.L2(0.1)
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "tanh", kernel_regularizer=penalty)])
            if strategy is not None:
                distribution.distributed(model)
            model.compile(keras.optimizers.SGD(0.1, clipnorm=0.5), keras.losses.MeanSquaredError(reduction=reduction))
        model.fit(x, y, sample_weight=weights, batch_size=16, epochs=3, shuffle=False, verbose=0)
        found |= {f"{reduction}{number}": weight for number, weight in enumerate(model.get_weights())}
    return found


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
    np.savez(path, **found, **{f"weighted/{name}": value for name, value in fit_weighted(strategy).items()})


if __name__ == "__main__":
    main()
