"""The same training in one process, on two devices of a process, and in two workers.

`python fits.py KIND FILE` trains under a strategy and writes the results to a file.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import keras_seq as ks
from keras_seq import distribution
from keras_seq.data.lines import Lines
from keras_seq.distribution.collectives import any_worker, require_same, wait_for_all
from keras_seq.distribution.strategies import cpu_strategy, worker_number
from keras_seq.errors import DistributionError
from keras_seq.models.carried_states import read_states

TEXT = "the cats, which already ate the apple, were full.\nthe cat was not.\n" * 40
VOCABULARY = ks.Vocabulary.from_text(TEXT)
STEPS = 50
# The optimizer, the cell, and whether the model trains by line. A GRU takes long to trace: one case has it, and
# tests/cli/test_workers.py trains one with carried states. Adam, which has states of its own, is the one with `clipnorm`.
CASES = {
    "sgd": (lambda: keras.optimizers.SGD(0.2), "simple_rnn", False),
    "global_clipnorm": (lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.1), "gru", True),
    "clipvalue": (lambda: keras.optimizers.SGD(0.5, clipvalue=0.001), "simple_rnn", False),
    "adam": (lambda: keras.optimizers.Adam(0.002, clipnorm=0.1), "simple_rnn", False),
}


class Losses(keras.callbacks.Callback):
    """Records the loss of each batch."""

    def on_train_begin(self, logs=None):
        self.losses, self._before = [], (0.0, 0.0)

    def on_train_batch_end(self, batch, logs=None):
        total = (batch + 1) * logs["loss"]  # Keras logs the mean over the epoch so far.
        self.losses.append(total - self._before[0])
        self._before = (total, batch)


def fit(case, strategy=None):
    """Returns the weights, losses, norms and carried states after `STEPS` steps of 8 rows."""
    optimizer, cell, by_line = CASES[case]
    keras.utils.set_random_seed(0)
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    with distribution.scope(strategy or tf.distribute.get_strategy()):
        sizes = {"units": [16], "embedding_dim": 8, "ngrams": 2, "ngram_rows": 53}
        model = ks.language_model(len(VOCABULARY), cell=cell, **sizes)
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
    """Returns the weights of a custom model after training with sample weights, for both reductions and with a penalty."""
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


def exchange(strategy):
    """Returns what a worker learns from the others by the functions of `collectives`."""
    number = worker_number(strategy)
    require_same(strategy, {"vocabulary": "x"})
    wait_for_all(strategy)
    try:
        require_same(strategy, {"vocabulary": "x", "code": f"of worker {number}", "settings": "y"})
        error = ""
    except DistributionError as difference:
        error = str(difference)
    return {
        "worker_number": number,
        "difference": error,
        "any_of_one": any_worker(strategy, number == 1),
        "any_of_none": any_worker(strategy, False),
    }


def fit_stock_keras(strategy):
    """Returns the error of Keras's own `fit` under a strategy, or an empty string."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    try:
        model.fit(np.zeros((8, 3), "float32"), np.zeros((8, 1), "float32"), batch_size=4, verbose=0)
    except Exception as error:
        return str(error)
    return ""


def main():
    kind, path = sys.argv[1:]
    strategy = cpu_strategy(2) if kind == "mirrored" else distribution.strategy(kind, trusted_network=True)
    assert strategy.num_replicas_in_sync == 2
    found = {f"{case}/{name}": value for case in CASES for name, value in fit(case, strategy).items()}
    found |= {f"weighted/{name}": value for name, value in fit_weighted(strategy).items()}
    if kind == "multi_worker":
        found |= {f"exchange/{name}": value for name, value in exchange(strategy).items()}
        found["stock_keras"] = fit_stock_keras(strategy)  # Last, because an error may leave the workers out of step.
    np.savez(path, **found)


if __name__ == "__main__":
    main()
