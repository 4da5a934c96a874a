"""`encode`: the states that a model's encoder gives, here and in a file; what it refuses."""

import keras
import numpy as np
import pytest
from brought_models import SIZE, VOCABULARY
from sequence_models import (
    genre_added_to_embeddings,
    noise_suppressor,
    randomized,
    speaker_as_initial_state,
    translation,
)

import keras_seq as ks
from keras_seq_export import LiteRTSampler, export_tflite
from keras_seq_export.tflite.decoder import LiteRTDecoder


def test_the_states_are_those_of_the_encoders_last_step():
    model = randomized(translation())
    embedding, encoder = (
        next(layer for layer in model.layers if isinstance(layer, kind))
        for kind in (keras.layers.Embedding, keras.layers.LSTM)
    )
    source = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], np.int32)
    expected = encoder(embedding(source))[1:]
    for state, one in zip(ks.encode(model, source), expected, strict=True):
        np.testing.assert_allclose(state, one, rtol=0, atol=1e-6)
    for state, one in zip(ks.encode(model, source[0]), expected, strict=True):
        np.testing.assert_allclose(state, one[:1], rtol=0, atol=1e-6)


def test_an_input_is_given_alone_in_a_list_or_by_name():
    model, source = randomized(translation()), np.array([3, 1, 4], np.int32)
    for given in (source, source.tolist(), [source], {"source": source}):
        np.testing.assert_array_equal(ks.encode(model, given)[0], ks.encode(model, source[None])[0])


@pytest.mark.parametrize(
    ("build", "given", "sentence"),
    [
        (translation, np.zeros((1, 3, 2), np.int32), r"`source` must be an array of shape \(rows, any\)"),
        (translation, np.array([[3, 11]]), r"`source` must be token ids from 0 to 10. Received: .*from 3 to 11"),
        (translation, np.array([[0.5]]), "`source` must be token ids"),
        (translation, np.zeros((1, 0), np.int32), "`source` must be an array of shape"),
        (translation, {"sauce": [1]}, "`inputs` must be a dictionary with source"),
        (speaker_as_initial_state, np.zeros(4), r"`context` must be an array of shape \(rows, 5\). Received: .*\(4,\)"),
        (genre_added_to_embeddings, np.array([[7]]), "`context` must be token ids from 0 to 3"),
        (noise_suppressor, np.zeros(4), "`model` must take an input at once. Received: .*, which reads `frame` step"),
    ],
)
def test_what_an_encoder_cannot_take_is_refused(build, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        ks.encode(build(), given)


def test_a_model_with_an_encoder_does_not_begin_without_it():
    with pytest.raises(ValueError, match=r"`states` must be given, because .* depend on `source`; `keras_seq.encode`"):
        ks.sample(translation(), VOCABULARY, "to")


@pytest.mark.slow
def test_a_file_takes_a_source_of_any_length_up_to_its_own(tmp_path):
    model, path = randomized(translation(mask_zero=True)), tmp_path / "a.tflite"
    export_tflite(model, None, path, source_steps=12)
    decoder, random = LiteRTDecoder(path), np.random.default_rng(0)
    for length in (1, 5, 11, 12):
        source = random.integers(0, 11, length)  # some are 0, which the embedding masks
        for state, one in zip(decoder.encode(source), ks.encode(model, source), strict=True):
            np.testing.assert_allclose(state, one, rtol=0, atol=1e-6)
    for wrong, words in (
        (np.zeros(13, int), "a source of at most 12 frames"),
        (np.zeros(0, int), r"an array of shape \(rows, any\)"),
        (np.zeros((1, 2, 3), int), r"an array of shape \(rows, any\)"),
        (np.zeros((2, 3), int), "of 1 rows, or one row for all"),
        (np.zeros(3), "integers that fit int32"),
        (np.array([3, 11]), "from 0 to 10"),
        (np.array([3, 2**32]), "integers that fit int32"),
    ):
        with pytest.raises(ValueError, match=f"`source` must be {words}.*Received: "):
            decoder.encode(wrong)
    with pytest.raises(ValueError, match=f"`token` must be from 0 to {SIZE - 1}. Received: {SIZE} to {SIZE}"):
        decoder(np.array([SIZE]), decoder.encode(source))
    with pytest.raises(ValueError, match=r"`encode` takes source\. Received: 0 arrays"):
        decoder.encode()
    with pytest.raises(ValueError, match="`states` must be given"):
        decoder.initial_states()


@pytest.mark.slow
def test_a_sampler_begins_only_with_states(tmp_path):
    model, path = randomized(translation()), tmp_path / "a.tflite"
    export_tflite(model, VOCABULARY, path)
    sampler, source = LiteRTSampler(path), np.array([3, 1, 4], np.int32)
    with pytest.raises(ValueError, match="`states` must be given"):
        sampler.sample("to")
    states = sampler.decoder.encode(source)
    expected = ks.sample(model, VOCABULARY, "to", states=ks.encode(model, source), max_tokens=30, seed=1)
    assert sampler.sample("to", states=states, max_tokens=30, seed=1) == expected
    with pytest.raises(ValueError, match="states"):
        sampler.sample("to", states=states[:1])
    assert sampler.vocabulary_size == SIZE


def test_internal_states_cannot_be_those_of_an_encoder(tmp_path):
    with pytest.raises(ValueError, match='`state` must be "explicit" for a model with an encoder'):
        export_tflite(translation(), None, tmp_path / "a.tflite", state="internal")
    assert not list(tmp_path.iterdir())


def encoded(part, shape=(None, 3)):
    """A model whose encoder is `part`, over frames."""
    source, target = keras.Input(shape), keras.Input((None,), dtype="int32")
    state = keras.layers.Dense(24)(part(source))
    x = keras.layers.GRU(24, return_sequences=True)(keras.layers.Embedding(9, 8)(target), initial_state=state)
    return keras.Model([source, target], keras.layers.Dense(9)(x))


def attention(source):
    x = keras.layers.Dense(16)(source)
    return keras.layers.GlobalAveragePooling1D()(keras.layers.MultiHeadAttention(2, 8)(x, x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [
        lambda source: keras.layers.GlobalMaxPooling1D()(keras.layers.Dense(2)(source)),
        attention,
        lambda source: keras.layers.GRU(8)(keras.layers.Conv1D(8, 3, padding="same")(source)),
    ],
    ids=["maximum", "attention", "convolution"],
)
def test_an_encoder_ignores_what_follows_a_source(part, tmp_path):
    model, random = randomized(encoded(part)), np.random.default_rng(0)
    export_tflite(model, None, tmp_path / "a.tflite", source_steps=10)
    decoder = LiteRTDecoder(tmp_path / "a.tflite")
    for row in range(20):
        source = random.normal(row % 5 - 2, 1, (1 + row % 10, 3)).astype(np.float32)
        for state, one in zip(decoder.encode(source), ks.encode(model, source), strict=True):
            np.testing.assert_allclose(state, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (lambda source: keras.ops.max(keras.layers.Dense(2)(source), axis=1), r"\(Max\)"),
        (lambda source: keras.layers.GRU(8)(keras.layers.Conv1D(8, 3, strides=2, padding="same")(source)), "Conv1D"),
        (lambda source: keras.layers.GRU(8)(keras.layers.Conv1D(8, 3)(source)), "Conv1D"),
    ],
    ids=["maximum", "strides", "valid"],
)
def test_an_encoder_that_may_read_what_follows_a_source_is_refused(part, name, tmp_path):
    with pytest.raises(RuntimeError, match=rf"layer '.*{name}.* cannot be in the encoder of a source of any length"):
        export_tflite(encoded(part), None, tmp_path / "a.tflite")
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(
        ValueError, match=r"`context` must be finite real numbers\. Received: .*float64 from nan to nan"
    ):
        ks.encode(speaker_as_initial_state(), np.full(5, np.nan))
