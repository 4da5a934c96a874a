"""The sampled softmax against NumPy and against the exact softmax."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seq as ks
from keras_seq.models.sampled_softmax import SampledSoftmax

VOCABULARY = ks.Vocabulary.from_text(" ".join(f"w{number}" for number in range(60)), level="word")
TOKENS = len(VOCABULARY)


def model(**options):
    keras.utils.set_random_seed(1)
    sizes = {"units": [12], "embedding_dim": 8, "token_counts": np.arange(TOKENS)}
    made = ks.language_model(TOKENS, cell="simple_rnn", tie_embeddings=True, **sizes, **options)
    made.set_weights([weight * 3 for weight in made.get_weights()])
    return made


def compiled(samples, **options):
    trained = SampledSoftmax(model(**options), samples)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    trained.compile("sgd", loss, weighted_metrics=[ks.NatsPerToken()])
    return trained


def batch(seed=0, rows=5, time=7):
    rng = np.random.default_rng(seed)
    return rng.integers(0, TOKENS, (rows, time)), rng.integers(0, TOKENS, (rows, time))


def exact_nats(trained, inputs, targets):
    logits = np.asarray(trained(inputs), np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(logits, targets[..., None], -1)[..., 0]


@pytest.mark.parametrize("shape", [None, (5, 7), (5, 7, 1), (5, 1), (5,)], ids=str)
def test_the_loss_is_the_cross_entropy_among_the_sampled_tokens(monkeypatch, shape):
    trained = compiled(samples=9)
    inputs, targets = batch()
    weights = None if shape is None else np.random.default_rng(1).choice([0, 0.01, 0.02], shape).astype(np.float32)
    seed = np.array([3, 4], np.uint32)
    monkeypatch.setattr(trained._seeds, "next", lambda *_, **__: seed)
    found = trained.compute_loss(inputs, targets, trained(inputs, training=True), weights)
    uniform = tf.random.stateless_uniform((9,), seed).numpy().astype(np.float64)
    drawn = np.minimum(np.floor(np.exp(uniform * np.log(TOKENS + 1))).astype(int) - 1, TOKENS - 1)
    expected_count = 9 * (np.log(np.arange(TOKENS) + 2) - np.log(np.arange(TOKENS) + 1)) / np.log(TOKENS + 1)
    logits = np.asarray(trained(inputs), np.float64) - np.log(expected_count)
    losses = []
    for row, target in zip(logits.reshape(-1, TOKENS), targets.ravel(), strict=True):
        others = row[drawn[drawn != target]]
        losses.append(np.log(np.exp(row[target]) + np.exp(others).sum()) - row[target])
    every = 1.0 if shape is None else weights.reshape(5, -1)
    expected = np.average(losses, weights=np.broadcast_to(every, targets.shape).ravel())
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_tokens_are_sampled_as_often_as_expected():
    trained = compiled(samples=50)
    counts = np.zeros(TOKENS)
    for _ in range(400):
        drawn = trained._sample()
        counts += np.bincount(drawn.numpy(), minlength=TOKENS)
    every = trained._expected_count(tf.range(TOKENS, dtype=tf.int64), tf.float32).numpy() * 400
    assert every.sum() == pytest.approx(50 * 400, rel=1e-5)
    assert (np.abs(counts - every) < 5 * np.sqrt(every)).all()
    assert drawn.shape == (50,)


def test_the_mean_gradient_is_that_of_the_exact_softmax():
    trained = compiled(samples=TOKENS - 1)
    inputs, targets = batch(time=3)

    def gradient(loss):
        with tf.GradientTape() as tape:
            value = loss()
        found = tape.gradient(value, [variable.value for variable in trained.trainable_variables])
        return np.concatenate([tf.convert_to_tensor(one).numpy().ravel() for one in found])

    exact = gradient(lambda: trained.compute_loss(inputs, targets, trained(inputs), None))
    sampled = np.mean(
        [
            gradient(lambda: trained.compute_loss(inputs, targets, trained(inputs, training=True), None))
            for _ in range(60)
        ],
        axis=0,
    )
    cosine = exact @ sampled / np.linalg.norm(exact) / np.linalg.norm(sampled)
    assert cosine > 0.97
    assert np.linalg.norm(sampled) == pytest.approx(np.linalg.norm(exact), rel=0.25)


@pytest.mark.parametrize("ngrams", [{}, {"ngrams": 2, "ngram_rows": 31}], ids=str)
def test_metrics_are_exact(ngrams):
    trained = compiled(samples=5, **ngrams)
    inputs, targets = batch(rows=6)
    mask = np.ones(targets.shape, np.float32)
    mask[:2, -1] = 0  # Their last token with a weight is the one before.
    mask[1, 2] = 0
    assert trained.evaluate(inputs, targets, verbose=0, return_dict=True)["nats"] == pytest.approx(
        exact_nats(trained, inputs, targets).mean(), rel=1e-5
    )
    nats = exact_nats(trained, inputs, targets)
    before = np.mean([*nats[:2, -2], *nats[2:, -1]])
    assert trained.train_on_batch(inputs, targets, mask, return_dict=True)["nats"] == pytest.approx(before, rel=1e-5)


@pytest.mark.slow
def test_the_model_learns_with_it():
    corpus = ks.agreement_corpus(sentences=600)
    vocabulary = ks.Vocabulary.from_text(corpus.text("train"), level="word")
    keras.utils.set_random_seed(0)
    plain = ks.language_model(len(vocabulary), units=[32], embedding_dim=16, tie_embeddings=True)
    trained = SampledSoftmax(ks.stateful_copy(plain, 8), samples=30)
    trained.compile(
        keras.optimizers.Adam(0.01, clipnorm=1), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    data = ks.streams(corpus.train, vocabulary, 8, 20)
    trained.fit(data, epochs=4, shuffle=False, verbose=0, callbacks=[ks.CarriedState()])
    plain.set_weights(trained.get_weights())
    nats = ks.evaluate(plain, vocabulary, corpus.validation).nats_per_token
    uniform = np.log(len(vocabulary))
    assert nats < 0.45 * uniform


@pytest.mark.slow
def test_a_resumed_run_samples_the_same_tokens(tmp_path):
    def fit(trained, epochs, checkpoint):
        data = tf.data.Dataset.from_tensors(batch()).repeat(3)
        trained.fit(data, epochs=epochs, initial_epoch=checkpoint.epoch, verbose=0, callbacks=[checkpoint])
        return trained.get_weights()

    whole = fit(compiled(7), 4, ks.Checkpoint(tmp_path / "whole.npz"))
    fit(compiled(7), 2, ks.Checkpoint(tmp_path / "part.npz"))
    checkpoint = ks.Checkpoint(tmp_path / "part.npz")
    checkpoint.load()
    for one, other in zip(whole, fit(compiled(7), 4, checkpoint), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("samples", [0, -3, TOKENS, 1.5, True])
def test_samples_out_of_range_are_rejected(samples):
    with pytest.raises(ValueError, match="`samples` must be an integer above 0 and below the 64 tokens"):
        SampledSoftmax(model(), samples)


def test_embeddings_that_are_not_tied_are_rejected():
    with pytest.raises(
        ValueError, match=r"create it with tie_embeddings=True. Received: logits made by 'logits' \(Dense\)"
    ):
        SampledSoftmax(ks.language_model(TOKENS, units=[12]), 5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_other_precisions(policy):
    keras.config.set_dtype_policy(policy)
    try:
        trained = compiled(samples=20)
    finally:
        keras.config.set_dtype_policy("float32")
    before = trained.train_on_batch(*batch(), return_dict=True)["loss"]
    for _ in range(20):
        after = trained.train_on_batch(*batch(), return_dict=True)["loss"]
    assert np.isfinite(after)
    assert before > 2


def test_the_loss_includes_regularizers():
    plain = model()
    plain.get_layer("embedding").embeddings.regularizer = keras.regularizers.L2(100.0)
    trained = SampledSoftmax(plain, 5)
    trained.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    penalty = 100 * np.square(plain.get_layer("embedding").embeddings.numpy()).sum()
    assert trained.train_on_batch(*batch(), return_dict=True)["loss"] > penalty


def test_saving_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="save the model that it was created from"):
        SampledSoftmax(model(), 5).save(tmp_path / "model.keras")
