"""The signature `gates`: the update gates of the GRU layers at each step, against the Keras layers and the equations."""

import keras
import numpy as np
import pytest
from bundles import rebundled
from hamlet import CATS, TEXT, WIDE, report_of, small_model, tiny_model

import keras_seq as ks
from keras_seq.errors import ConfigError, ModelError
from keras_seq.models.step_gates import update_gates
from keras_seq_export import ExportError, LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle


@pytest.fixture(scope="module")
def gated(small_tflite):
    return small_tflite(gates=True)


def read(decoder, tokens):
    """Returns for each state the values before and after each token, and the gates, each `(time, units)`."""
    states, before, after, gates = decoder.initial_states(), [], [], []
    for token in tokens:
        given = np.full(decoder.batch, token, np.int32)
        before.append(states)
        gates.append(decoder.update_gates(given, states))
        _, states = decoder.step([given], states)
        after.append(states)
    return [
        [np.stack([step[0] for step in one]) for one in zip(*all_of, strict=True)] for all_of in (before, after, gates)
    ]


def gates_of_layers(model, tokens):
    """Returns the update gates of each GRU of a model over a text, `(time, units)`, from the layers themselves."""
    layers = [layer for layer in model.layers if isinstance(layer, ks.GRU)]
    given = [keras.Model(model.input, layer.input)(np.array([tokens])) for layer in layers]
    return [np.asarray(layer.gates(one).update[0]) for layer, one in zip(layers, given, strict=True)]


def tokens_of(vocabulary, text=TEXT[:60]):
    return [vocabulary.start_id, *vocabulary.encode(text).tolist()]


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"units": (24,)}, marks=pytest.mark.slow)], ids=["two layers", "one layer"]
)
def test_the_gates_are_those_of_the_layers(options, small_tflite):
    model, vocabulary = small_model(**options)
    path = small_tflite(gates=True, **options)
    _, _, found = read(LiteRTDecoder(path), tokens_of(vocabulary))
    for expected, actual in zip(gates_of_layers(model, tokens_of(vocabulary)), found, strict=True):
        assert expected.std() > 0.03
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    assert report_of(path)["largest_gate_difference"] < 1e-5


def test_the_memory_follows_from_the_gates(gated):
    """c' = Γu * c~ + (1 - Γu) * c, with the candidate c~ in NumPy from the weights."""
    model, vocabulary = small_model()
    tokens = tokens_of(vocabulary)
    before, after, gates = read(LiteRTDecoder(gated), tokens)
    given = model.get_layer("embedding").get_weights()[0][tokens]
    for layer, c, new, gate in zip(
        [it for it in model.layers if isinstance(it, ks.GRU)], before, after, gates, strict=True
    ):
        kernel, recurrent, (input_bias, memory_bias) = layer.get_weights()
        of_input, of_memory = given @ kernel + input_bias, c @ recurrent + memory_bias
        keep, relevance, candidate = zip(np.split(of_input, 3, axis=1), np.split(of_memory, 3, axis=1), strict=True)
        sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
        candidate = np.tanh(candidate[0] + sigmoid(sum(relevance)) * candidate[1])
        np.testing.assert_allclose(gate, 1 - sigmoid(sum(keep)), rtol=0, atol=1e-5)
        np.testing.assert_allclose(gate * candidate + (1 - gate) * c, new, rtol=0, atol=1e-5)
        given = new


@pytest.mark.parametrize("quantization", [pytest.param("float16", marks=pytest.mark.slow), "int8"])
def test_the_gates_of_a_quantized_file_are_close(quantization, small_tflite):
    model, vocabulary = small_model(**WIDE)
    _, _, (found,) = read(
        LiteRTDecoder(small_tflite(gates=True, quantization=quantization, **WIDE)), tokens_of(vocabulary)
    )
    (expected,) = gates_of_layers(model, tokens_of(vocabulary))
    assert 0 < np.abs(found - expected).mean() < 0.03


@pytest.mark.slow
def test_a_batch_gives_the_gates_of_each_row(small_tflite):
    model, _ = small_model()
    decoder = LiteRTDecoder(small_tflite(gates=True, batch=2))
    first = decoder.update_gates(np.array([3, 7]), decoder.initial_states())
    for row, token in enumerate((3, 7)):
        for expected, found in zip(gates_of_layers(model, [token]), first, strict=True):
            np.testing.assert_allclose(found[row], expected[0], rtol=0, atol=1e-5)


def test_a_text_does_not_depend_on_the_signature(gated, small_tflite):
    texts = [LiteRTSampler(path).sample("To be", max_tokens=80, seed=5) for path in (gated, small_tflite())]
    assert texts[0] == texts[1]


def test_a_masked_step_keeps_the_memory():
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(len(CATS), 8, mask_zero=True)(tokens)
    model = keras.Model(tokens, keras.layers.Dense(len(CATS))(ks.GRU(6, return_sequences=True)(embedded)))
    memory = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    decoder = ks.step_model(model)
    states = [np.zeros(state.shape[1:], "float32")[None].repeat(2, 0) for state in decoder.inputs[2:]]
    gates = np.asarray(update_gates(decoder)([np.array([0, 5]), memory, *states]))
    assert not gates[0].any()
    assert (gates[1] > 0).all()


def test_a_step_before_the_first_frame_keeps_the_memory():
    """A convolution without padding has no output before the third token, so that the GRU after it does not read."""
    model = model_with(keras.layers.Conv1D(8, 3, padding="valid"), ks.GRU(6, return_sequences=True))
    step = ks.step_model(model)
    gates = update_gates(step)
    states = [np.zeros((1, *state.shape[1:]), state.dtype) for state in step.inputs[1:]]
    for number, token in enumerate((4, 5, 6, 7)):
        given = [keras.ops.convert_to_tensor(one) for one in (np.array([token]), *states)]
        (gate,) = keras.tree.flatten(gates(given))
        assert bool(np.all(gate == 0)) == (number < 2)
        assert bool(np.all(gate > 0)) == (number >= 2)
        _, *states = step(given)


@pytest.mark.parametrize(("cell", "name"), [("lstm", "LSTMCell"), ("simple_rnn", "SimpleRNNCell")])
def test_a_model_without_a_gru_is_refused(cell, name, tmp_path):
    with pytest.raises(ModelError, match=rf"needs a model with a layer keras_seq\.GRU.*Received: a model with {name}$"):
        export_tflite(tiny_model(CATS, cell=cell), CATS, tmp_path / "a.tflite", gates=True)
    assert list(tmp_path.iterdir()) == []


def model_with(*layers):
    """Returns a new model of `CATS` with these layers between its embedding and its logits."""
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(CATS), 8)(tokens)
    for layer in layers:
        values = layer(values)
    return keras.Model(tokens, keras.layers.Dense(len(CATS))(values))


def test_a_gru_of_keras_is_refused_with_advice(tmp_path):
    layer = keras.layers.GRU(8, return_sequences=True)
    model = model_with(layer)
    with pytest.raises(ModelError, match=r"keras_seq\.GRU\.from_config\(layer\.get_config\(\)\)"):
        export_tflite(model, CATS, tmp_path / "a.tflite", gates=True)
    ours = ks.GRU.from_config(layer.get_config())
    same = keras.Model(model.input, model.layers[-1](ours(layer.input)))
    ours.set_weights(layer.get_weights())
    assert export_tflite(same, CATS, tmp_path / "a.tflite", gates=True)["largest_gate_difference"] < 1e-5


class Turned(ks.GRUCell):
    """Its update gate is what is kept."""

    def call(self, inputs, states, training=False):
        gates = self.gates(inputs, states[0])
        memory = gates.update * states[0] + (1 - gates.update) * gates.candidate
        return memory, [memory]


class Renamed(ks.GRUCell):
    """Its `gates` are others than those of its step."""

    def gates(self, inputs, memory):
        gates = super().gates(inputs, memory)
        return gates._replace(update=gates.relevance)


class Smoother(ks.GRUCell):
    """Keeps `call` and `gates`, which both follow its step."""

    def _step(self, inputs, memory, training):
        step = super()._step(inputs, memory, training)
        return step._replace(keep=0.5 + step.keep / 2)


def layer_of(cell):
    return keras.layers.RNN(cell, return_sequences=True, name="mine")


@pytest.mark.parametrize(
    ("layers", "received"),
    [
        (lambda: [layer_of(Turned(8))], r"the layer mine with the cell Turned, which may .*; leave `gates` out$"),
        (lambda: [layer_of(Renamed(8))], "the layer mine with the cell Renamed, which may"),
        (
            lambda: [ks.GRU(8, return_sequences=True), keras.layers.GRU(8, return_sequences=True, name="theirs")],
            r"the layer theirs with the cell keras\.layers\.GRUCell; make it one with `keras_seq\.GRU\.from_config",
        ),
        (
            lambda: [ks.GRU(8, return_sequences=True), layer_of([keras.layers.LSTMCell(8), ks.GRUCell(8)])],
            "the layer mine with several cells; make each of its cells a layer$",
        ),
    ],
    ids=["another call", "other gates", "beside one of Keras", "beside several cells"],
)
def test_a_gru_whose_gates_are_not_known_is_refused(layers, received, tmp_path):
    with pytest.raises(ModelError, match=f"^`gates` needs each GRU of the model .*Received: {received}") as found:
        export_tflite(model_with(*layers()), CATS, tmp_path / "a.tflite", gates=True)
    assert list(tmp_path.iterdir()) == []
    assert found.value.for_command_line(["gates"]).startswith("--gates needs each GRU")


def test_a_cell_with_another_step_gives_the_gates_of_that_step():
    model = model_with(layer_of(Smoother(8)), keras.layers.LSTM(8, return_sequences=True))
    step = ks.step_model(model)
    states = [np.random.default_rng(0).normal(size=(1, 8)).astype("float32") for _ in step.inputs[1:]]
    (gate,) = keras.tree.flatten(update_gates(step)([np.array([5]), *states]))
    given = model.layers[1].get_weights()[0][[5]]
    c, cell = states[0], model.get_layer("mine").cell
    candidate, (new, _) = np.asarray(cell.gates(given, c).candidate), cell(given, [c])
    np.testing.assert_allclose(gate * candidate + (1 - gate) * c, new, rtol=0, atol=1e-6)
    assert 0 < np.max(gate) < 0.5


def test_a_step_of_several_frames_has_no_gates():
    frames = keras.Input((None, 4))
    layers = ks.GRU(6, return_sequences=True), keras.layers.Conv1D(8, 2, strides=2, padding="causal")
    step = ks.step_model(keras.Model(frames, layers[1](layers[0](frames))))
    with pytest.raises(AssertionError, match="A step must read one frame"):
        update_gates(step)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "internal"}, 'must be "explicit" with `gates`'),
        ({"gates": 1}, "`gates` must be True or False"),
    ],
)
def test_what_cannot_have_gates_is_refused(options, words, tmp_path):
    with pytest.raises((ConfigError, ValueError), match=words):
        export_tflite(tiny_model(CATS), CATS, tmp_path / "a.tflite", **{"gates": True, **options})


def test_a_model_that_is_not_of_text_is_refused(tmp_path):
    frames = keras.Input((None, 3))
    model = keras.Model(frames, ks.GRU(4, return_sequences=True)(frames))
    with pytest.raises(ValueError, match="`gates` are for models of text"):
        export_tflite(model, None, tmp_path / "a.tflite", gates=True)


@pytest.mark.parametrize("change", [lambda gate: 1 - gate, lambda gate: gate + 1e-3], ids=["Keras's sense", "rounded"])
def test_wrong_gates_are_refused(change, gated, take_converted, model, vocabulary, tmp_path, monkeypatch):
    take_converted(gated)
    right = LiteRTDecoder.update_gates
    monkeypatch.setattr(LiteRTDecoder, "update_gates", lambda *given: [change(gate) for gate in right(*given)])
    with pytest.raises(ExportError, match="gates, update_gate_0: the file differs from the model by up to"):
        export_tflite(model, vocabulary, tmp_path / "wrong.tflite", gates=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda gate: 1 - gate,
            r"gates, update_gate_0: the gates of the file differ from the model's by 0\.\d+ on average$",
        ),
        (lambda gate: gate[:, 1:], r"gates, update_gate_0: the file returns shape"),
    ],
    ids=["Keras's sense", "without a unit"],
)
def test_wrong_gates_of_a_quantized_file_are_refused(
    change, words, small_tflite, take_converted, tmp_path, monkeypatch
):
    options = {"gates": True, "quantization": "int8"}
    take_converted(small_tflite(**options, **WIDE))
    right = LiteRTDecoder.update_gates
    monkeypatch.setattr(LiteRTDecoder, "update_gates", lambda *given: [change(gate) for gate in right(*given)])
    model, vocabulary = small_model(**WIDE)
    with pytest.raises(ExportError, match=words):
        export_tflite(model, vocabulary, tmp_path / "wrong.tflite", max_loss=10, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_the_signature_says_how_to_add_it(small_tflite):
    decoder = LiteRTDecoder(small_tflite())
    assert not decoder.has_gates
    with pytest.raises(ModelError, match=r"export_tflite\(\.\.\., gates=True\) adds"):
        decoder.update_gates(np.array([3]), decoder.initial_states())


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("outputs", b"update_gate_0", "the outputs of gates must be"),
        ("inputs", b"state_1", "the inputs of gates must be"),
    ],
)
def test_a_changed_signature_is_refused(kind, name, words, gated, tmp_path):
    model = flatbuffer.parse(read_bundle(gated).model)
    signature = next(one for one in model.signatureDefs if one.signatureKey == b"gates")
    entries = getattr(signature, kind)
    entries.remove(next(one for one in entries if one.name == name))
    path = rebundled(gated, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    with pytest.raises(BundleError, match=words):
        LiteRTDecoder(path)
