"""Norms while a model trains, against gradients computed apart."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seq as ks
from keras_seq.errors import ModelError
from keras_seq.training.gradient_norms import GradientNorms, StepNorms, threshold_range

TEXT = "to be or not to be, that is the question; " * 12
VOCABULARY = ks.Vocabulary.from_text(TEXT)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CLIPPINGS = [{}, {"clipnorm": 0.02}, {"global_clipnorm": 0.05}, {"clipvalue": 0.001}]


def model():
    keras.utils.set_random_seed(1)
    return ks.language_model(len(VOCABULARY), cell="simple_rnn", units=[6], embedding_dim=4)


def model_of_dense_gradients():
    """One without an embedding."""
    keras.utils.set_random_seed(1)
    one_hot = keras.layers.CategoryEncoding(len(VOCABULARY), output_mode="one_hot")
    layers = [one_hot, ks.SimpleRNN(6, return_sequences=True), keras.layers.Dense(len(VOCABULARY))]
    return keras.Sequential([keras.Input((21,), dtype="int32"), *layers])


def data():
    return ks.streams(TEXT, VOCABULARY, batch_size=2, length=21)


def clipped(gradients, clipnorm=None, global_clipnorm=None, clipvalue=None):
    """What the papers say, in NumPy."""
    if clipvalue is not None:
        return [np.clip(gradient, -clipvalue, clipvalue) for gradient in gradients]
    norms = [np.linalg.norm(gradient) for gradient in gradients]
    if clipnorm is not None:
        return [gradient * min(1, clipnorm / norm) for gradient, norm in zip(gradients, norms, strict=True)]
    if global_clipnorm is not None:
        return [gradient * min(1, global_clipnorm / np.linalg.norm(norms)) for gradient in gradients]
    return gradients


def norm(arrays):
    return np.sqrt(sum((np.asarray(array, np.float64) ** 2).sum() for array in arrays))


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=str)
def test_each_step_has_the_norms_of_its_gradients(clipping, tmp_path):
    """The same steps by hand: gradient, clipping, plain descent."""
    by_hand, rate = model_of_dense_gradients(), 0.5
    expected = []
    for inputs, targets in data():
        with tf.GradientTape() as tape:
            loss = LOSS(targets, by_hand(inputs, training=True))
        gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, by_hand.trainable_weights)]
        cut = clipped(gradients, **clipping)
        expected.append([norm(gradients), norm(cut), norm(by_hand.get_weights()), rate])
        by_hand.set_weights([weight - rate * step for weight, step in zip(by_hand.get_weights(), cut, strict=True)])

    trained = model_of_dense_gradients()
    trained.compile(keras.optimizers.SGD(rate, **clipping), LOSS)
    norms = GradientNorms(tmp_path / "steps.csv")
    history = trained.fit(data(), epochs=1, shuffle=False, verbose=0, callbacks=[norms]).history
    with (tmp_path / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = [
        [float(row[name]) for name in ("gradient_norm", "clipped_norm", "parameter_norm", "learning_rate")]
        for row in rows
    ]
    np.testing.assert_allclose(logged, expected, rtol=2e-5)
    np.testing.assert_allclose(norms.norms, np.array(expected)[:, 0], rtol=2e-5)
    expected = np.array(expected)
    assert history["gradient_norm"][0] == pytest.approx(expected[:, 0].mean(), rel=2e-5)
    assert history["largest_gradient_norm"][0] == pytest.approx(expected[:, 0].max(), rel=2e-5)
    assert history["clipped"][0] == pytest.approx((expected[:, 1] < expected[:, 0] * 0.9999).mean())
    assert (history["clipped"][0] > 0) == bool(clipping)
    for one, other in zip(trained.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def squares():
    """A linear model of five batches, and its loss."""
    random = np.random.default_rng(0)
    inputs, targets = random.normal(size=(10, 3)).astype("float32"), random.normal(size=(10, 1)).astype("float32")
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant([[1], [2], [3]]))
    return keras.Sequential([keras.Input((3,)), layer]), inputs, targets


@pytest.mark.parametrize(
    ("together", "accumulated", "scale"), [(3, None, None), (1, 2, None), (4, 3, None), (1, None, 1024.0)]
)
def test_each_update_has_the_norms_of_its_gradient(together, accumulated, scale):
    """Five batches in each of two epochs, by hand in NumPy; some executions and groups of batches are not full."""
    trained, inputs, targets = squares()
    rate, every = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.8), accumulated or 1
    weights, group, expected = trained.get_weights()[0], [], []
    for batch in range(10):
        x, y = (array[batch % 5 * 2 :][:2] for array in (inputs, targets))
        group.append(x.T @ (x @ weights - y))  # of the mean of two squares
        if len(group) == every:
            gradient = np.mean(group, axis=0)
            cut, group = clipped([gradient], global_clipnorm=2.0)[0], []
            expected.append([batch, norm([gradient]), norm([cut]), norm([weights]), 0.1 * 0.8**batch])
            weights = weights - 0.1 * 0.8**batch * cut
    expected = np.array(expected)
    assert 0 < (expected[:, 1] > 2).mean() < 1

    options = {"gradient_accumulation_steps": accumulated, "loss_scale_factor": scale}
    optimizer = keras.optimizers.SGD(rate, global_clipnorm=2.0, **options)
    trained.compile(optimizer, "mse", steps_per_execution=together, jit_compile=False)
    norms, seen = GradientNorms(), []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([logs[name] for name in StepNorms._fields] if StepNorms._fields[0] in logs else None)

    fit_options = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
    history = trained.fit(inputs, targets, callbacks=[norms, Look()], **fit_options).history
    np.testing.assert_allclose(norms.norms, expected[:, 1], rtol=1e-5)
    executions = [
        set(range(5 * epoch + first, 5 * epoch + min(first + together, 5)))
        for epoch in (0, 1)
        for first in range(0, 5, together)
    ]
    for logs, batches in zip(seen, executions, strict=True):
        updates = [row[1:] for row in expected if row[0] in batches]
        assert (logs is None) == (not updates)
        if updates:
            np.testing.assert_allclose(logs, updates[-1], rtol=1e-5)
    for epoch in (0, 1):
        of_epoch = expected[expected[:, 0] // 5 == epoch]
        assert history["gradient_norm"][epoch] == pytest.approx(of_epoch[:, 1].mean(), rel=1e-5)
        assert history["learning_rate"][epoch] == pytest.approx(of_epoch[-1, 4], rel=1e-5)
    np.testing.assert_allclose(trained.get_weights()[0], weights, rtol=1e-5)


def test_an_update_that_is_skipped_for_its_scale_has_no_norm():
    trained, inputs, targets = squares()
    inner = keras.optimizers.SGD(0.1)
    trained.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**127), "mse", jit_compile=False)
    norms = GradientNorms()
    history = trained.fit(inputs, targets, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[norms]).history
    assert 0 < len(norms.norms) == int(inner.iterations) < 10
    assert np.isfinite(norms.norms).all()
    assert len(history["gradient_norm"]) == 2


def test_several_optimizers_are_refused():
    trained, inputs, targets = squares()
    trained.compile(keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD(0.1)), "mse")
    with pytest.raises(ModelError, match=r"one optimizer.* Received: a MultiOptimizer"):
        trained.fit(inputs, targets, verbose=0, callbacks=[GradientNorms()])


def test_the_norm_of_an_embeddings_gradient_is_that_of_the_sum_for_each_token():
    trained = model()
    inputs, targets = next(iter(data()))
    with tf.GradientTape() as tape:
        loss = LOSS(targets, trained(inputs, training=True))
    gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, trained.trainable_weights)]
    trained.compile("sgd", LOSS)
    norms = GradientNorms()
    trained.fit(data(), shuffle=False, verbose=0, callbacks=[norms])
    assert norms.norms[0] == pytest.approx(norm(gradients), rel=1e-5)


def test_the_optimizer_is_restored():
    trained, inputs, targets = squares()
    trained.compile("adam", "mse", jit_compile=False)
    for _ in range(2):
        norms = GradientNorms()
        trained.fit(inputs, targets, batch_size=2, epochs=2, verbose=0, callbacks=[norms])
        assert len(norms.norms) == 2 * 5
    assert "_clip_gradients" not in vars(trained.optimizer)
    trained.fit(inputs, targets, epochs=1, verbose=0)


def test_half_precision_has_the_norms_of_the_unscaled_gradients():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        trained = model()
    finally:
        keras.config.set_dtype_policy("float32")
    trained.compile("adam", LOSS)
    norms = GradientNorms()
    trained.fit(data(), shuffle=False, verbose=0, callbacks=[norms])
    plain, expected = model(), GradientNorms()
    plain.compile("adam", LOSS)
    plain.fit(data(), shuffle=False, verbose=0, callbacks=[expected])
    np.testing.assert_allclose(norms.norms[0], expected.norms[0], rtol=0.02)


def test_thresholds_worth_trying_are_around_the_mean():
    assert threshold_range([1.0, 3.0, np.inf]) == (1.0, 20.0)
    with pytest.raises(ValueError, match="at least one finite norm"):
        threshold_range([np.nan])
