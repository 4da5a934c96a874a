"""The client of a model with an encoder, with a server on loopback; and of a model that has no text."""

import keras
import numpy as np
import pytest
from hamlet import LINE, VOCABULARY
from keras import layers
from sequence_models import chain, gru, randomized
from served_model import serving

import keras_seq as ks
from keras_seq_export import Client, ServingError
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.saved_model.endpoints import write_series_signatures, write_signatures

pytest.importorskip("grpc", reason="needs pip install tensorflow-serving-api")
OPTIONS = {"max_tokens": 12, "temperature": 0.8, "seed": 7}
SOURCE = np.array([3, 1, 4, 1, 5])


def translation():
    """A GRU reads the source; its last state and the vector of a style give the first state of the decoder."""
    source = keras.Input((None,), dtype="int32")
    style, target = keras.Input((2,), name="style"), keras.Input((None,), dtype="int32")
    read = layers.GRU(10)(layers.Embedding(9, 4)(source))
    state = layers.Dense(10, activation="tanh")(layers.Concatenate()([read, style]))
    x = layers.GRU(10, return_sequences=True)(layers.Embedding(len(VOCABULARY), 8)(target), initial_state=state)
    return keras.Model([source, style, target], layers.Dense(len(VOCABULARY))(x))


def addresses_of(ports):
    return {"http": f"http://127.0.0.1:{ports['rest']}", "grpc": f"grpc://127.0.0.1:{ports['grpc']}"}


@pytest.fixture(scope="module")
def model():
    model = randomized(translation())
    # Peaked distributions like those of a trained model.
    model.set_weights([weight * 3 for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def addresses(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("serving") / "shakespeare" / "1"
    write_signatures(GraphStep(model, VOCABULARY), VOCABULARY, directory, max_length=10_000)
    with serving(directory) as ports:
        yield addresses_of(ports)


@pytest.fixture(params=["http", pytest.param("grpc", marks=pytest.mark.slow)])
def client(request, addresses):
    with Client(addresses[request.param], "shakespeare", timeout=60) as client:
        yield client


def test_the_states_of_the_encoder_begin_the_text_of_keras(client, model):
    style = np.array([0.5, -1.0])
    states = client.encode(SOURCE, style)
    expected = ks.encode(model, [SOURCE, style])
    assert [state.shape for state in states] == [(1, 10)]
    np.testing.assert_allclose(states[0], expected[0], atol=1e-6)
    for prompt in ("", "to be"):
        text = "".join(client.generate(prompt, states=states, **OPTIONS))
        assert text == ks.sample(model, VOCABULARY, prompt, states=expected, **OPTIONS)
        assert client.write(prompt, inputs=(SOURCE, style), **OPTIONS) == text
    assert client.write("to be", inputs=(SOURCE[::-1], style), **OPTIONS) != text
    scored = client.score(LINE, inputs=(SOURCE, style))
    np.testing.assert_allclose(
        scored.log_probabilities, ks.score(model, VOCABULARY, LINE, states=expected).log_probabilities, atol=1e-5
    )


def test_each_prompt_of_a_batch_has_a_row_of_the_encoders_inputs(client, model):
    sources, style = np.random.default_rng(0).integers(0, 9, (35, 6)), np.zeros(2)
    expected = ks.encode(model, [sources, np.zeros((35, 2))])[0]
    np.testing.assert_allclose(client.encode(sources, style)[0], expected, atol=1e-6)
    prompts, seeds = [LINE[start : start + 3] for start in range(35)], list(range(35))
    texts = client.write(prompts, inputs=(sources, style), max_tokens=5, seed=seeds)
    for row in (0, 34):
        states = ks.encode(model, [sources[row], style])
        assert texts[row] == ks.sample(model, VOCABULARY, prompts[row], states=states, max_tokens=5, seed=row)


def test_a_text_never_begins_from_zeros_in_silence(client):
    needs = "`states` must be given, because the model begins with those that its encoder gives for source, context"
    for call in (client.initial_states, lambda: "".join(client.generate("to", max_tokens=3))):
        with pytest.raises(ValueError, match=f"{needs}; `Client.encode` returns them"):
            call()
    client._transport.predict = None
    for call in (lambda: client.write("to"), lambda: client.score("to")):
        with pytest.raises(ValueError, match="`inputs` must be given, what the encoder takes: source, context"):
            call()


def test_inputs_that_the_encoder_does_not_take_are_refused_without_a_request(client):
    client._transport.predict = None
    style = np.zeros(2)
    for values, words in (
        ((SOURCE,), "`inputs` must be an array for each of source, context. Received: inputs='1 arrays'"),
        ((SOURCE * 1.0, style), "`source` must be token ids from 0 to 8"),
        ((SOURCE + 5, style), "`source` must be token ids from 0 to 8"),
        ((SOURCE - 2, style), "`source` must be token ids from 0 to 8"),
        ((SOURCE[:0], style), r"`source` must be an array of shape \(rows, any\)"),
        ((SOURCE, np.zeros(3)), r"`context` must be an array of shape \(rows, 2\)"),
        ((SOURCE, style + np.nan), "`context` must be finite real numbers"),
        ((np.tile(SOURCE, (3, 1)), np.zeros((2, 2))), "`context` must be of 3 rows, or one row for all"),
    ):
        with pytest.raises(ValueError, match=words):
            client.encode(*values)
    with pytest.raises(ValueError, match="`source` must be of 2 rows, or one row for all"):
        client.write(["to", "be"], inputs=(np.tile(SOURCE, (3, 1)), style))


@pytest.mark.slow
def test_a_model_without_text_is_refused(tmp_path):
    model = chain((None, 3), gru(4))
    write_series_signatures(model, GraphStep(model, None), tmp_path / "1")
    words = (
        "version 1, does not start a text, as an export with a vocabulary does, which `Client` needs: shakespeare at"
    )
    with serving(tmp_path / "1") as ports:
        for address in addresses_of(ports).values():
            with pytest.raises(ServingError, match=words):
                Client(address, "shakespeare")
