"""Reserved tokens that are added to a model and its vocabulary."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_seq as ks

VOCABULARY = ks.Vocabulary.from_tokens(["", "[UNK]", "the", "cat", "sat."])
V = len(VOCABULARY)
TOKENS = {"shape": (None,), "dtype": "int32"}


def sequential(*parts, tokens=TOKENS):
    return keras.Sequential([keras.Input(**tokens), *parts])


def gru(units=4, **options):
    return layers.GRU(units, return_sequences=True, **options)


def with_two_embeddings_and_a_mask():
    tokens = keras.Input((None,))  # floats, as Keras has them without a dtype
    mask = keras.ops.not_equal(keras.ops.cast(tokens, "int32"), 0)
    values = layers.Concatenate()([layers.Embedding(V, 3)(tokens), layers.Embedding(V, 2)(tokens)])
    return keras.Model(tokens, layers.Activation("softmax")(layers.Dense(V)(gru()(values, mask=mask))))


def tied_with_a_softmax():
    tokens, embedding = keras.Input(**TOKENS), layers.ReversibleEmbedding(V, 4)
    return keras.Model(tokens, layers.Softmax()(embedding(gru()(embedding(tokens)), reverse=True)))


MODELS = {
    "logits": lambda: ks.language_model(V, units=[4, 6]),
    "softmax": lambda: sequential(layers.Embedding(V, 3), gru(), layers.Dense(V, activation="softmax")),
    "no bias": lambda: sequential(layers.Embedding(V, 3, mask_zero=True), gru(), layers.Dense(V, use_bias=False)),
    "more rows": lambda: sequential(layers.Embedding(V + 1, 3), gru(), layers.TimeDistributed(layers.Dense(V))),
    "tied": lambda: ks.language_model(V, units=[6], embedding_dim=4, tie_embeddings=True),
    "tied softmax": tied_with_a_softmax,
    "two": with_two_embeddings_and_a_mask,
    "at the end": lambda: sequential(layers.Embedding(V, 3), layers.LSTM(4), layers.Dense(V)),
    "stateful": lambda: sequential(
        layers.Embedding(V, 3), gru(stateful=True), layers.Dense(V), tokens={"batch_shape": (2, 9), "dtype": "int32"}
    ),
}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def model(request):
    model, random = request.param(), np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(scale=2, size=weight.shape))
    return model


def reset(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()


def probabilities(outputs):
    exponentials = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    is_softmax = (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, atol=1e-5)
    return outputs if is_softmax else exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_the_model_computes_the_same_and_does_not_draw_the_new_tokens(model, tmp_path):
    before = model.get_weights()
    larger, vocabulary = ks.add_reserved_tokens(model, VOCABULARY)
    assert vocabulary.tokens == (*VOCABULARY.tokens, "<s>", "<eos>")
    assert type(larger) is type(model)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
    ids = np.random.default_rng(1).integers(0, V, (2, 9))
    reset(model)
    expected = np.asarray(model(ids))
    reset(larger)
    outputs = np.asarray(larger(ids))
    assert outputs.shape == (*expected.shape[:-1], V + 2)
    np.testing.assert_allclose(outputs[..., :V], expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(outputs).all()
    assert probabilities(outputs)[..., V:].max() < 1e-9
    for layer in larger.layers:
        if isinstance(layer, layers.Embedding):
            assert not np.asarray(layer.embeddings)[V : V + 2].any()
    larger.save(tmp_path / "larger.keras")
    loaded = keras.models.load_model(tmp_path / "larger.keras")
    np.testing.assert_array_equal(np.asarray(loaded(ids)), outputs)


@pytest.mark.slow
def test_the_added_tokens_can_be_used_and_learned():
    keras.utils.set_random_seed(0)
    model, vocabulary = ks.add_reserved_tokens(ks.language_model(V, units=[8], embedding_dim=4), VOCABULARY)
    with pytest.raises(
        ValueError, match=r"one that has <s>, <eos>; `ks.add_reserved_tokens\(model, vocabulary\)` adds"
    ):
        ks.sample(ks.language_model(V, units=[8]), VOCABULARY)
    text = ks.sample(model, vocabulary, "the", max_tokens=20, seed=1, allow_unk=True)
    assert text.finish_reason == "length"
    assert vocabulary.encode("the" + text).tolist() == [2, *text.token_ids]
    model.compile(keras.optimizers.Adam(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(ks.lines("the cat sat.\n" * 8, vocabulary, batch_size=8).repeat(80), epochs=1, verbose=0)
    learned = ks.sample(model, vocabulary, temperature=0)
    assert (learned, learned.finish_reason) == ("the cat sat.", "eos")


def test_a_complete_vocabulary_is_returned_as_it_is():
    vocabulary = ks.Vocabulary.from_text("abc")
    model = ks.language_model(len(vocabulary), units=[2])
    assert ks.add_reserved_tokens(model, vocabulary) == (model, vocabulary)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sequential(layers.CategoryEncoding(V, output_mode="one_hot"), gru(), layers.Dense(V)),
            "with Embedding layers. Received: a model that reads them with layer 'category_encoding.*CategoryEncoding",
        ),
        (lambda: sequential(gru(), layers.Dense(V), tokens={"shape": (None, V)}), "reads them with layer 'gru"),
        (lambda: sequential(layers.Embedding(V, 3), gru(V)), "come from one call of a Dense layer.*GRU"),
        (
            lambda: sequential(layers.Embedding(V, 3), gru(), layers.Dense(V, activation="tanh")),
            "ends in logits or in a softmax. Received: .* with the activation tanh",
        ),
        (lambda: sequential(layers.Embedding(V - 1, 3), gru(), layers.Dense(V)), "one row per token .* 4 rows in"),
        (lambda: sequential(layers.Embedding(V, 3), gru(), layers.Dense(V + 1)), "one logit per token .* 6 logits"),
        (
            lambda: keras.Sequential([layers.Embedding(V, 3), layers.Dense(V)]),
            "must be a built Sequential or Functional",
        ),
        (lambda: ks.language_model(V, units=[4], ngrams=2, ngram_rows=31), "cannot be added to a model with n-grams"),
        (lambda: "model.keras", "`model` must be a Keras model"),
    ],
)
def test_a_model_that_tokens_cannot_be_added_to_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        ks.add_reserved_tokens(make(), VOCABULARY)
