"""The GRU against the equations of the course notes (float64 NumPy), and against `keras.layers.GRU`."""

import inspect
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seq as ks

try:  # Keras's wheel carries its tests.
    from keras.src.layers.rnn import gru_test
except ImportError:
    gru_test = None

BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5
# float32 keeps 24 bits, and errors add up over TIME steps of values below 1: 6 * 6e-8, with room for the sums' order.
FLOAT32 = {"rtol": 0, "atol": 2e-6}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_weights(layer, seed=1):
    """Weights with biases that are not zero, so that each of them shows."""
    return [numbers(*weight.shape, seed=seed + index) * 0.5 for index, weight in enumerate(layer.get_weights())]


def pair(ours=None, **arguments):
    """Our layer and the stock one, same arguments and same weights."""
    mine = ks.GRU(UNITS, **arguments, **(ours or {}))
    stock = keras.layers.GRU(UNITS, **arguments)
    fixed = BATCH if arguments.get("stateful") else None
    for layer in (mine, stock):
        layer.build((fixed, TIME, FEATURES))
    stock.set_weights(random_weights(stock))
    mine.set_weights(stock.get_weights())
    return mine, stock


def assert_same(mine, stock, **tolerance):
    for one, other in zip(keras.tree.flatten(mine), keras.tree.flatten(stock), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one.numpy(), other.numpy(), **(tolerance or FLOAT32))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def notes_gru(sequences, memory, weights, reset_after):
    """The notes' equations, gate by gate, in float64. Gives Γu, Γr, c~ and c' of every step, `(batch, time, units)`.

    Keras stores the gate that keeps, 1 - Γu = σ(a), so Γu = σ(-a): its columns come with their sign turned.
    """
    kernel, recurrent, bias = (np.asarray(weight, "float64") for weight in weights)
    input_bias, memory_bias = bias if reset_after else (bias, np.zeros_like(bias))
    columns = {"keep": slice(0, UNITS), "relevance": slice(UNITS, 2 * UNITS), "candidate": slice(2 * UNITS, None)}

    def affine(gate, x, c):
        part = columns[gate]
        return x @ kernel[:, part] + input_bias[part] + (c @ recurrent[:, part] + memory_bias[part])

    c, steps = np.asarray(memory, "float64"), []
    for x in np.swapaxes(np.asarray(sequences, "float64"), 0, 1):
        update = sigmoid(-affine("keep", x, c))
        relevance = sigmoid(affine("relevance", x, c))
        part = columns["candidate"]
        if reset_after:  # Γr * (Wc c + b): the form that cuDNN runs
            projected = relevance * (c @ recurrent[:, part] + memory_bias[part])
        else:  # Wc (Γr * c): the form of the notes
            projected = (relevance * c) @ recurrent[:, part]
        candidate = np.tanh(x @ kernel[:, part] + input_bias[part] + projected)
        c = update * candidate + (1 - update) * c
        steps.append((update, relevance, candidate, c))
    return [np.stack(values, axis=1) for values in zip(*steps, strict=True)]


@pytest.mark.parametrize("reset_after", [True, False])
def test_layer_and_gates_follow_the_equations_of_the_notes(reset_after):
    layer = ks.GRU(UNITS, return_sequences=True, reset_after=reset_after)
    layer.build((None, TIME, FEATURES))
    layer.set_weights(random_weights(layer))
    sequences, memory = numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS, seed=9)

    update, relevance, candidate, memories = notes_gru(sequences, memory, layer.get_weights(), reset_after)

    np.testing.assert_allclose(layer(sequences, initial_state=[memory]), memories, **FLOAT32)
    gates = layer.gates(sequences, initial_state=memory)
    np.testing.assert_allclose(gates.update, update, **FLOAT32)
    np.testing.assert_allclose(gates.relevance, relevance, **FLOAT32)
    np.testing.assert_allclose(gates.candidate, candidate, **FLOAT32)


@pytest.mark.parametrize(
    ("sequences", "memory", "message"),
    [
        (np.ones((5, 3)), None, r"`sequences` must be \(batch, time, features\)"),
        (np.ones((2, 0, 3)), None, "`sequences`"),
        (np.ones((2, 5, 3)), np.ones((2, 3)), r"`initial_state` must be \(2, 4\)"),
    ],
)
def test_gates_of_other_shapes_are_refused(sequences, memory, message):
    with pytest.raises(ValueError, match=message):
        ks.GRU(4).gates(sequences, memory)


def test_gates_of_a_layer_that_reads_backwards_are_in_its_order():
    layer = ks.GRU(UNITS, go_backwards=True, return_sequences=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    gates, memories = layer.gates(sequences), layer(sequences).numpy()
    before = np.concatenate([np.zeros((BATCH, 1, UNITS)), memories[:, :-1]], axis=1)
    np.testing.assert_allclose(gates.update * gates.candidate + (1 - gates.update) * before, memories, **FLOAT32)


def test_gates_take_a_first_memory_as_the_layer_does():
    layer, sequences, memory = ks.GRU(UNITS), numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS)
    layer.build(sequences.shape)
    np.testing.assert_array_equal(layer.gates(sequences, [memory]).update, layer.gates(sequences, memory).update)


def test_an_input_of_a_model_has_no_gates():
    with pytest.raises(ValueError, match="`sequences` must be data"):
        ks.GRU(4).gates(keras.Input((5, 3)))


@pytest.mark.parametrize("shape", [(13,), (4, 12), (3, 2, 12)])
def test_chrono_initialization_of_what_is_no_gru_bias_is_refused(shape):
    with pytest.raises(ValueError, match="ChronoInitializer is for the bias of a GRU of 3 blocks"):
        ks.ChronoInitializer(9)(shape)


def test_a_saved_model_loads_in_a_fresh_process(tmp_path):
    keras.Sequential([keras.Input((None, FEATURES)), ks.GRU(UNITS)]).save(tmp_path / "model.keras")
    program = "import keras, keras_seq; print(keras.saving.load_model('model.keras').layers[0])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "GRU" in done.stdout


def test_gates_start_from_the_zero_memory():
    layer = ks.GRU(UNITS)
    layer.build((None, TIME, FEATURES))
    layer.set_weights(random_weights(layer))
    sequences = numbers(BATCH, TIME, FEATURES)
    update, *_ = notes_gru(sequences, np.zeros((BATCH, UNITS)), layer.get_weights(), reset_after=True)
    np.testing.assert_allclose(layer.gates(sequences).update, update, **FLOAT32)


@pytest.mark.parametrize("bias", [-20.0, 20.0])
def test_an_update_gate_at_zero_keeps_the_memory_and_at_one_replaces_it(bias):
    cell = ks.GRUCell(UNITS)
    cell.build((None, FEATURES))
    weights = random_weights(cell)
    weights[2][0, :UNITS] = -bias  # the gate Keras stores is 1 - Γu
    cell.set_weights(weights)
    inputs, memory = numbers(BATCH, FEATURES), numbers(BATCH, UNITS, seed=9)
    output, [state] = cell(inputs, [memory])
    gates = cell.gates(inputs, memory)
    expected = memory if bias < 0 else gates.candidate.numpy()
    np.testing.assert_allclose(gates.update, float(bias > 0), atol=1e-6)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert output is state


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"return_sequences": True},
        {"return_state": True},
        {"return_sequences": True, "return_state": True},
        {"go_backwards": True, "return_sequences": True},
        {"unroll": True, "return_sequences": True},
        {"use_bias": False},
        {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
        {"implementation": 1},
    ],
    ids=str,
)
def test_equals_the_stock_layer_with_the_same_weights(arguments, reset_after):
    mine, stock = pair(reset_after=reset_after, **arguments)
    sequences = numbers(BATCH, TIME, FEATURES)
    assert_same(mine(sequences), stock(sequences))


def test_weights_have_the_stock_layers_order_and_go_both_ways():
    mine, stock = pair(return_sequences=True)
    assert [w.shape for w in mine.weights] == [w.shape for w in stock.weights]
    assert [w.name for w in mine.weights] == [w.name for w in stock.weights]
    mine.set_weights(random_weights(mine, seed=50))
    sequences = numbers(BATCH, TIME, FEATURES)
    assert not np.allclose(mine(sequences), stock(sequences), atol=1e-2)
    stock.set_weights(mine.get_weights())
    assert_same(mine(sequences), stock(sequences))


MASKS = {
    "left": [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]],
    "middle": [[1, 0, 0, 1, 1, 1], [1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 1, 0]],
}


@pytest.mark.parametrize("side", MASKS)
def test_masked_steps_leave_the_memory_as_it_is(side):
    mask = np.array(MASKS[side], bool)
    mine, stock = pair(return_sequences=True, return_state=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    output, state = mine(sequences, mask=tf.constant(mask))
    stock_output, stock_state = stock(sequences, mask=tf.constant(mask))
    assert_same(state, stock_state)
    # The fused stock kernel gives zeros at steps masked on the right; real steps must agree.
    assert_same(output[mask], stock_output[mask])
    for row, kept in enumerate(mask):  # the same row with its masked steps cut out
        *_, memories = notes_gru(sequences[row : row + 1, kept], np.zeros((1, UNITS)), mine.get_weights(), True)
        np.testing.assert_allclose(output[row][kept], memories[0], **FLOAT32)
        np.testing.assert_allclose(state[row], memories[0, -1], **FLOAT32)


def test_zero_output_for_mask():
    mask = np.array(MASKS["middle"], bool)
    layer = ks.GRU(UNITS, return_sequences=True, zero_output_for_mask=True)
    output = layer(numbers(BATCH, TIME, FEATURES), mask=tf.constant(mask)).numpy()
    assert (output[~mask] == 0).all()
    assert (output[mask] != 0).any(axis=-1).all()


def test_starts_from_the_given_memory():
    mine, stock = pair(return_sequences=True)
    sequences, memory = numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS, seed=9)
    assert_same(mine(sequences, initial_state=[memory]), stock(sequences, initial_state=[memory]))
    assert not np.allclose(mine(sequences, initial_state=[memory]), mine(sequences), atol=1e-2)


def test_stateful_carries_the_memory_until_it_is_reset():
    mine, stock = pair(stateful=True, return_sequences=True)
    sequences = numbers(BATCH, 2 * TIME, FEATURES)
    halves = [sequences[:, :TIME], sequences[:, TIME:]]
    whole = stock(sequences).numpy()
    stock.reset_state()
    carried = np.concatenate([mine(half).numpy() for half in halves], axis=1)
    np.testing.assert_allclose(carried, whole, **FLOAT32)
    mine.reset_state()
    np.testing.assert_allclose(mine(halves[0]), whole[:, :TIME], **FLOAT32)


@pytest.mark.parametrize(
    "arguments", [{"dropout": 0.4}, {"recurrent_dropout": 0.4}, {"dropout": 0.3, "recurrent_dropout": 0.4}]
)
@pytest.mark.parametrize("reset_after", [True, False])
def test_dropout_with_the_same_seed(arguments, reset_after):
    mine, stock = pair(reset_after=reset_after, seed=11, return_sequences=True, **arguments)
    sequences = numbers(BATCH, TIME, FEATURES)
    # The stock layer draws both masks before it looks whether its fused kernel runs, so both layers draw in one order.
    trained = mine(sequences, training=True)
    assert_same(trained, stock(sequences, training=True))
    assert_same(mine(sequences, training=False), stock(sequences, training=False))
    assert not np.allclose(trained, mine(sequences, training=False), atol=1e-2)
    # A new mask for every batch, and the same one over its steps.
    assert not np.allclose(trained, mine(sequences, training=True), atol=1e-2)


def test_mixed_float16_policy():
    mine, stock = pair(dtype="mixed_float16", return_sequences=True, return_state=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    results = mine(sequences)
    assert [result.dtype for result in results] == [tf.float16, tf.float16]
    assert {weight.dtype for weight in mine.weights} == {"float32"}
    # float16 keeps 11 bits: 2**-11 a rounding, a few a step.
    assert_same(results, stock(sequences), rtol=0, atol=4e-3)
    *_, memories = notes_gru(sequences, np.zeros((BATCH, UNITS)), mine.get_weights(), True)
    np.testing.assert_allclose(results[0], memories, rtol=0, atol=2e-2)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gradients_equal_the_stock_layers(reset_after):
    mine, stock = pair(reset_after=reset_after, return_sequences=True)
    sequences, direction = tf.constant(numbers(BATCH, TIME, FEATURES)), numbers(BATCH, TIME, UNITS, seed=7)

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            loss = tf.reduce_sum(layer(sequences) * direction)
        return tape.gradient(loss, [sequences, *[weight.value for weight in layer.trainable_weights]])

    # Sums over BATCH * TIME terms of size up to about 3.
    assert_same(gradients(mine), gradients(stock), rtol=1e-5, atol=1e-5)


def test_gradients_equal_differences_of_the_equations():
    """Stock Keras could be wrong too: the derivative along a random direction, from the float64 equations."""
    layer = ks.GRU(UNITS, return_sequences=True)
    layer.build((None, TIME, FEATURES))
    layer.set_weights(random_weights(layer))
    weights, sequences = layer.get_weights(), numbers(BATCH, TIME, FEATURES)
    directions = [numbers(*weight.shape, seed=70 + index).astype("float64") for index, weight in enumerate(weights)]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(sequences))
    gradients = tape.gradient(loss, [weight.value for weight in layer.weights])

    def oracle(distance):
        moved = [weight + distance * direction for weight, direction in zip(weights, directions, strict=True)]
        return notes_gru(sequences, np.zeros((BATCH, UNITS)), moved, True)[-1].sum()

    slope = (oracle(1e-5) - oracle(-1e-5)) / 2e-5
    along = sum(float((g.numpy() * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert along == pytest.approx(slope, rel=1e-4)


def test_config_holds_every_argument_and_rebuilds_the_layer():
    arguments = {
        "return_sequences": True,
        "return_state": True,
        "go_backwards": True,
        "unroll": True,
        "zero_output_for_mask": True,
        "activation": "relu",
        "recurrent_activation": "hard_sigmoid",
        "use_bias": False,
        "dropout": 0.1,
        "recurrent_dropout": 0.2,
        "reset_after": False,
        "seed": 3,
        "trainable": False,
        "name": "memory",
    }
    layer = ks.GRU(
        UNITS,
        kernel_regularizer=keras.regularizers.L2(0.01),
        activity_regularizer=keras.regularizers.L1(0.02),
        dtype="mixed_float16",
        **arguments,
    )
    config = layer.get_config()
    copy = ks.GRU.from_config(config)
    assert {name: config[name] for name in arguments} == arguments
    assert copy.get_config() == config
    assert copy.units == UNITS
    assert copy.cell.dtype_policy.name == "mixed_float16"
    assert float(copy.cell.kernel_regularizer.l2) == pytest.approx(0.01)
    assert float(copy.activity_regularizer.l1) == pytest.approx(0.02)


def wrapped(kind):
    if kind == "GRU":
        return ks.GRU(UNITS, return_sequences=True)
    if kind == "Bidirectional":
        return keras.layers.Bidirectional(ks.GRU(UNITS, return_sequences=True))
    if kind == "RNN":
        return keras.layers.RNN(ks.GRUCell(UNITS), return_sequences=True)
    return keras.layers.RNN([ks.GRUCell(UNITS), keras.layers.LSTMCell(3)], return_sequences=True)


@pytest.mark.parametrize("kind", ["GRU", "Bidirectional", "RNN", "StackedRNNCells"])
def test_saving_loading_and_cloning(kind, tmp_path):
    model = keras.Sequential([keras.Input((None, FEATURES)), wrapped(kind), keras.layers.Dense(2)])
    sequences = numbers(BATCH, TIME, FEATURES)
    expected = model(sequences).numpy()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(sequences), expected)
    clone = keras.models.clone_model(model)
    assert not np.allclose(clone(sequences), expected, atol=1e-4)  # new weights
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(sequences), expected)


def test_bidirectional_and_rnn_of_the_cell_equal_the_stock_ones():
    sequences = numbers(BATCH, TIME, FEATURES)
    for mine, stock in (
        (wrapped("Bidirectional"), keras.layers.Bidirectional(keras.layers.GRU(UNITS, return_sequences=True))),
        (wrapped("RNN"), keras.layers.RNN(keras.layers.GRUCell(UNITS), return_sequences=True)),
        (
            wrapped("stack"),
            keras.layers.RNN([keras.layers.GRUCell(UNITS), keras.layers.LSTMCell(3)], return_sequences=True),
        ),
    ):
        for layer in (mine, stock):
            layer.build((None, TIME, FEATURES))
        stock.set_weights(random_weights(stock))
        mine.set_weights(stock.get_weights())
        assert_same(mine(sequences), stock(sequences))


@pytest.mark.skipif(gru_test is None, reason="this Keras comes without its tests")
class TestKerasOwnTests(gru_test.GRUTest if gru_test else object):
    """The tests that Keras has for `keras.layers.GRU`, with ours in its place."""

    @pytest.fixture(autouse=True)
    def ours_in_its_place(self, monkeypatch):
        monkeypatch.setattr("keras.src.layers.GRU", ks.GRU)


def test_arguments_by_position_are_keras_ones():
    positional = (UNITS, "relu", "hard_sigmoid", False, "ones")
    mine, stock = ks.GRU(*positional), keras.layers.GRU(*positional)
    ours = mine.get_config()
    assert ours.pop("reset_gate") is True
    assert ours.pop("weight_dropout") == 0
    ours["name"] = stock.name
    assert ours == stock.get_config()
    sequences = numbers(BATCH, TIME, FEATURES)
    mine.build(sequences.shape)
    stock.build(sequences.shape)
    mine.set_weights(stock.get_weights())
    assert_same(mine(sequences), stock(sequences))
    cell, stock_cell = ks.GRUCell(*positional), keras.layers.GRUCell(*positional)
    assert {**stock_cell.get_config(), "name": cell.name, "reset_gate": True, "weight_dropout": 0} == cell.get_config()


def test_every_public_attribute_of_the_stock_layer_is_there():
    mine, stock = pair(stateful=True, dropout=0.1)

    def public(layer):
        return {name for name, _ in inspect.getmembers(layer) if not name.startswith("_")}

    assert public(stock) <= public(mine)
    assert isinstance(mine, keras.layers.GRU)


def test_units_may_be_a_numpy_integer():
    assert type(ks.GRU(np.int64(UNITS)).get_config()["units"]) is int


def test_time_distributed_equals_the_stock_one():
    mine, stock = (keras.layers.TimeDistributed(layer(UNITS)) for layer in (ks.GRU, keras.layers.GRU))
    videos = numbers(BATCH, 2, TIME, FEATURES)
    mine(videos), stock(videos)
    mine.set_weights(stock.get_weights())
    assert_same(mine(videos), stock(videos))


def test_weights_files_and_models_of_the_stock_layer_load(tmp_path):
    sequences = numbers(BATCH, TIME, FEATURES)
    mine, stock = (
        keras.Sequential([keras.Input((None, FEATURES)), layer(UNITS)]) for layer in (ks.GRU, keras.layers.GRU)
    )
    stock.save_weights(tmp_path / "stock.weights.h5")
    mine.load_weights(tmp_path / "stock.weights.h5")
    assert_same(mine(sequences), stock(sequences))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains_as_the_stock_layer_does(policy):
    mine, stock = pair(dtype=policy, return_sequences=True)
    sequences = tf.constant(numbers(BATCH, TIME, FEATURES))

    def gradients(layer):
        @tf.function
        def run():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(sequences, training=True), "float32"))
            return tape.gradient(loss, [weight.value for weight in layer.weights])

        return run()

    kernel, recurrent_kernel, bias = zip(gradients(mine), gradients(stock), strict=True)
    np.testing.assert_array_equal(*kernel)
    np.testing.assert_array_equal(*recurrent_kernel)
    # The biases are added in another order: float16 keeps 11 bits, bfloat16 8.
    assert_same(*bias, rtol=2**-9, atol=2**-9 if policy == "mixed_float16" else 2**-5)


def simplified(memory, weights, sequences):
    """The notes' simplified GRU, in float64: no Γr."""
    kernel, recurrent, bias = (np.asarray(weight, "float64") for weight in weights)
    c, steps = np.asarray(memory, "float64"), []
    for x in np.swapaxes(np.asarray(sequences, "float64"), 0, 1):
        sums = x @ kernel + c @ recurrent + bias
        update, candidate = sigmoid(-sums[:, :UNITS]), np.tanh(sums[:, UNITS:])
        c = update * candidate + (1 - update) * c
        steps.append((update, candidate, c))
    return [np.stack(values, axis=1) for values in zip(*steps, strict=True)]


def test_without_the_reset_gate_it_is_the_simplified_gru_of_the_notes(tmp_path):
    layer = ks.GRU(UNITS, reset_gate=False, return_sequences=True)
    sequences, memory = numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS, seed=9)
    layer.build(sequences.shape)
    assert [weight.shape for weight in layer.weights] == [(FEATURES, 10), (UNITS, 10), (10,)]
    layer.set_weights(random_weights(layer))
    update, candidate, memories = simplified(memory, layer.get_weights(), sequences)

    np.testing.assert_allclose(layer(sequences, initial_state=[memory]), memories, **FLOAT32)
    gates = layer.gates(sequences, initial_state=memory)
    np.testing.assert_allclose(gates.update, update, **FLOAT32)
    np.testing.assert_array_equal(gates.relevance, np.ones_like(update))
    np.testing.assert_allclose(gates.candidate, candidate, **FLOAT32)

    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.layers[0].reset_gate
    np.testing.assert_array_equal(loaded(sequences), model(sequences))


@pytest.mark.parametrize("arguments", [{"use_bias": False}, {"dropout": 0.4}, {"recurrent_dropout": 0.4}])
def test_the_simplified_gru_takes_the_other_arguments(arguments):
    layer = ks.GRU(UNITS, reset_gate=False, seed=3, **arguments)
    sequences = numbers(BATCH, TIME, FEATURES)
    layer.build(sequences.shape)
    assert len(layer.weights) == (2 if "use_bias" in arguments else 3)
    dropped = not np.allclose(layer(sequences, training=True), layer(sequences), atol=1e-3)
    assert dropped == ("use_bias" not in arguments)


RECURRENT = [{}, {"reset_after": False}, {"reset_gate": False}]


@pytest.mark.parametrize("arguments", RECURRENT)
@pytest.mark.parametrize("kind", ["layer", "unrolled", "RNN of the cell", "in a graph"])
def test_dropped_weights_are_the_same_at_every_step_of_a_batch(kind, arguments):
    """Beside a layer whose kernel lacks what the seed drops."""
    options = {"weight_dropout": 0.4, "seed": 11, **arguments}
    layer = ks.GRU(UNITS, unroll=kind == "unrolled", **options)
    if kind == "RNN of the cell":
        layer = keras.layers.RNN(ks.GRUCell(UNITS, **options))
    other, sequences = ks.GRU(UNITS, **arguments), numbers(BATCH, TIME, FEATURES)
    for one in (other, layer):
        one.build((None, TIME, FEATURES))
        one.set_weights(random_weights(other))
    call = tf.function(layer) if kind == "in a graph" else layer
    for _ in range(2):
        seed = keras.random.SeedGenerator(11)
        seed.state.assign(layer.cell.seed_generator.state)
        kernel, recurrent_kernel, bias = random_weights(other)
        other.set_weights([kernel, np.asarray(keras.random.dropout(recurrent_kernel, 0.4, seed=seed)), bias])
        assert_same(call(sequences, training=True), other(sequences))
    other.set_weights(random_weights(other))
    assert_same(layer(sequences), other(sequences))


def test_weights_are_dropped_after_saving_and_loading(tmp_path):
    model = keras.Sequential([keras.Input((None, FEATURES)), ks.GRU(UNITS, weight_dropout=0.4)])
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").layers[0].weight_dropout == 0.4


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan, "a"])
def test_a_share_of_weights_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="`weight_dropout` must be a number of at least 0 and below 1"):
        ks.GRU(4, weight_dropout=share)


def test_cudnn_with_dropped_weights_is_refused():
    with pytest.raises(ValueError, match="`use_cudnn=True` cannot drop weights"):
        ks.GRU(UNITS, weight_dropout=0.1, use_cudnn=True)


def test_cudnn_without_the_reset_gate_is_refused():
    with pytest.raises(ValueError, match="`use_cudnn=True` needs the reset gate"):
        ks.GRU(UNITS, reset_gate=False, use_cudnn=True)


def test_with_a_gpu_keras_decides_about_cudnn(monkeypatch):
    """As on a machine with a GPU: the fast path stands back, and Keras's own call for cuDNN gets our weights."""
    asked = []

    def cudnn(*arguments, **named):
        asked.append(named)
        raise NotImplementedError

    monkeypatch.setattr("keras_seq.layers.gru_fast_path.is_available", lambda: False)
    monkeypatch.setattr("keras.src.backend.gru", cudnn)
    layer, sequences = ks.GRU(UNITS), tf.constant(numbers(BATCH, TIME, FEATURES))
    tf.function(lambda: layer(sequences, training=True))()
    assert asked[0]["kernel"] is layer.cell.kernel
    assert asked[0]["reset_after"] is True


@pytest.mark.parametrize("gru", [ks.GRU, keras.layers.GRU])
@pytest.mark.parametrize(
    "arguments", [{"unroll": True}, {"recurrent_dropout": 0.1, "dropout": 0.1}, {"dropout": 0.1, "implementation": 1}]
)
def test_cudnn_that_cannot_be_had_is_refused_as_in_keras(gru, arguments):
    with pytest.raises(ValueError, match="use_cudnn=True was specified"):
        gru(UNITS, use_cudnn=True, **arguments)(numbers(BATCH, TIME, FEATURES))


@pytest.mark.parametrize(("arguments", "gates"), [({}, 3), ({"reset_after": False}, 3), ({"reset_gate": False}, 2)])
def test_chrono_initialization_spreads_the_memory_over_2_to_longest_steps(arguments, gates):
    initializer = ks.ChronoInitializer(longest=1000, gates=gates, seed=0)
    layer = ks.GRU(500, bias_initializer=initializer, **arguments)
    layer.build((None, None, 1))
    bias = layer.get_weights()[2].astype("float64").reshape(-1, gates * 500)
    keep = sigmoid(bias.sum(axis=0)[:500])
    lasting = 1 / (1 - keep)
    assert (lasting > 1.99).all()
    assert (lasting < 1001).all()
    # Uniform over 2 to 1000: mean 501 with a standard error of 288 / sqrt(500) = 12.9; 4 of them.
    assert lasting.mean() == pytest.approx(501, abs=52)
    assert not bias[:, 500:].any()
    copy = keras.initializers.deserialize(keras.initializers.serialize(initializer))
    np.testing.assert_array_equal(copy((gates * 500,)), initializer((gates * 500,)))


def test_a_chrono_initialized_memory_lasts():
    """What a unit was given at the first step is still there after half of its longest time; by default it is gone."""
    kept = {}
    for name, initializer in (("zeros", "zeros"), ("chrono", ks.ChronoInitializer(longest=200, seed=0))):
        layer = ks.GRU(50, bias_initializer=initializer, kernel_initializer="zeros", recurrent_initializer="zeros")
        kept[name] = layer(np.zeros((1, 50, 1), "float32"), initial_state=[np.ones((1, 50), "float32")]).numpy()
    assert kept["zeros"].max() < 1e-10
    assert np.median(kept["chrono"]) > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"longest": 1}, "`longest` must"),
        ({"longest": math.inf}, "`longest` must"),
        ({"longest": "9"}, "`longest` must"),
        ({"longest": 9, "gates": 4}, "`gates`"),
    ],
)
def test_bad_chrono_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.ChronoInitializer(**arguments)


@pytest.mark.parametrize("arguments", [{"reset_gate": False}, {"bias_initializer": ks.ChronoInitializer(9, gates=2)}])
def test_chrono_initialization_of_another_number_of_gates_is_refused(arguments):
    with pytest.raises(ValueError, match="`gates` must be [23] in the ChronoInitializer of this layer"):
        ks.GRU(6, **{"bias_initializer": ks.ChronoInitializer(longest=9), **arguments})


def test_chrono_initialization_without_a_seed_follows_the_seed_of_keras():
    drawn = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        drawn.append(np.asarray(ks.ChronoInitializer(longest=9)((12,))).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("units", [0, -3, 2.5, "8", None, True])
def test_bad_units_are_refused(units):
    with pytest.raises(ValueError, match=r"`units` must be a positive integer\. Received: units="):
        ks.GRU(units)


def test_unknown_argument_is_refused_by_name():
    with pytest.raises((TypeError, ValueError), match="no_such_argument"):
        ks.GRU(4, no_such_argument=1)
