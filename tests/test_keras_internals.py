"""What keras_seq relies on inside Keras and TensorFlow. Each failure says what has changed and what it breaks."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from workers import run_all, worker_environments


@contextlib.contextmanager
def relies_on(sentence: str) -> Iterator[None]:
    """Fails with a sentence if a name is missing or takes other arguments. Also serves as the decorator of a test.

    Args:
        sentence: what keras_seq relies on.
    """
    try:
        yield
    except (AttributeError, TypeError, ImportError) as error:
        pytest.fail(f"This is not so any more: {sentence} {type(error).__name__}: {error}")


with relies_on("`tensorflow.python.ops` has the module `gradients_util`."):
    from keras_seq import keras_internals

BATCH, TIME, FEATURES, UNITS = 2, 3, 4, 5


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def compiled(**options):
    model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(1)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", "jit_compile": False} | options)
    return model


# Layers


@relies_on("`gradients_util.PossibleTapeGradientTypes(tensors)` of TensorFlow tells what tapes may differentiate.")
@pytest.mark.parametrize("in_graph", [False, True])
def test_possible_derivatives(in_graph):
    watched, other = tf.Variable(1.0), tf.Variable(1.0, trainable=False)

    def order(*tapes, of=watched):
        run = tf.function(asked) if in_graph else asked
        with contextlib.ExitStack() as stack:
            for tape in tapes:
                stack.enter_context(tape)
            return int(run(of))

    def asked(variable):
        return keras_internals.possible_derivatives([tf.convert_to_tensor(variable)])

    once, twice = tf.GradientTape, lambda: tf.GradientTape(persistent=True)
    found = [order(), order(once(), of=other), order(once()), order(twice()), order(once(), once())]
    assert found == [0, 0, 1, 2, 2], (
        "`PossibleTapeGradientTypes` of TensorFlow does not count tapes any more: the fast path never runs, or "
        "runs where XLA cannot give TensorFlow what a second derivative needs"
    )


@relies_on("`forwardprop_util.pack_tangents(tensors)` of TensorFlow returns the tangents of accumulators.")
@pytest.mark.parametrize("in_graph", [False, True])
def test_has_tangents(in_graph):
    watched, other = tf.constant(1.0), tf.constant(2.0)

    def asked():
        with tf.autodiff.ForwardAccumulator(watched, tf.ones(())):
            inside = [keras_internals.has_tangents([one]) for one in (2 * watched, 2 * other)]
        return [*inside, keras_internals.has_tangents([watched])]

    found = (tf.function(asked) if in_graph else asked)()
    assert [bool(one) for one in found] == [True, False, False], (
        "`pack_tangents` of TensorFlow does not know accumulators any more: the fast path runs under them"
    )


@relies_on("`control_flow_util.GraphOrParentsInXlaContext(graph)` of TensorFlow knows functions with `jit_compile`.")
def test_is_in_xla():
    def asked(jit_compile):
        answers = []

        def ask():
            answers.append(keras_internals.is_in_xla())
            inner = tf.function(lambda: answers.append(keras_internals.is_in_xla()))
            inner()

        tf.function(ask, jit_compile=jit_compile, autograph=False)()
        return [bool(answer) for answer in answers]

    assert asked(True) == [True, True], "XLA gets a GRU in parts of unknown length, which it cannot compile"
    assert asked(False) == [False, False]


class AsksTrainer(keras.layers.Layer):
    """Records whether it is called in a graph of `fit`, `evaluate` or `predict`."""

    def __init__(self):
        super().__init__()
        self.answers = []

    def call(self, inputs):
        self.answers.append(keras_internals.is_in_trainer())
        return inputs


@relies_on("Keras traces steps of `fit`, `evaluate` and `predict` in functions with certain names.")
@pytest.mark.parametrize("use", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_is_in_trainer(use, steps_per_execution, tmp_path):
    inputs = keras.Input((UNITS,))
    asks = AsksTrainer()
    model = keras.Model(inputs, keras.layers.Dense(1)(asks(inputs)))
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    values = np.ones((2, UNITS)), *([] if use == "predict" else [np.ones((2, 1))])
    getattr(model, use)(*values, verbose=0)
    assert asks.answers[-1], (
        "the functions of Keras's trainer have other names: `evaluate` and `predict` of a GRU run in the loop of Keras"
    )
    for call in (model, tf.function(model), lambda values: model.export(tmp_path, verbose=False)):
        asks.answers.clear()
        call(values[0])
        assert not any(asks.answers)


@relies_on("Layers have an attribute `supports_jit` that can be set.")
def test_refuse_jit_compile():
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layers.SimpleRNN(UNITS)])
    keras_internals.refuse_jit_compile(model.layers[0])
    with pytest.warns(UserWarning, match="jit_compile"):
        model.compile(jit_compile=True)
    assert model.jit_compile is False, (
        "`Model.compile` does not read `supports_jit` of layers any more: XLA would compile models with a GRU as a whole"
    )


class Loop(keras.layers.GRU):
    """Records the calls that Keras makes around the loop over time."""

    def __init__(self, **options):
        super().__init__(UNITS, **options)
        self.calls, cell = [], self.cell
        for name in ("get_recurrent_dropout_mask", "reset_recurrent_dropout_mask"):
            setattr(cell, name, self.recorded(name, getattr(cell, name)))

    def recorded(self, name, method):
        def call(*arguments):
            self.calls.append(name)
            return method(*arguments)

        return call

    def inner_loop(self, sequences, initial_state, mask, training=False):
        self.calls.append("inner_loop")
        if self.use_cudnn:
            last, outputs, states = super().inner_loop(sequences, initial_state, mask, training)
        else:
            last, outputs, states = keras_internals.rnn_loop(self, sequences, initial_state, mask, training)
        return last + 1, outputs + 1, states


@pytest.mark.parametrize("use_cudnn", ["auto", False])
@relies_on("`keras.layers.RNN` and `keras.layers.GRU` have `inner_loop(sequences, initial_state, mask, training)`.")
def test_inner_loop_and_rnn_loop(use_cudnn):
    layer = Loop(return_sequences=True, return_state=True, use_cudnn=use_cudnn)
    sequences, initial = numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS)
    outputs, state = layer(sequences, initial_state=[initial])
    assert "inner_loop" in layer.calls, (
        "`keras.layers.RNN.call` does not call `inner_loop` any more: `FastLayer` needs another method to override"
    )
    stock = keras.layers.GRU(UNITS, return_sequences=True, return_state=True)
    stock.build(sequences.shape)
    stock.set_weights(layer.get_weights())
    expected_outputs, expected_state = stock(sequences, initial_state=[initial])
    message = "`inner_loop` does not return the last output, all outputs and the states any more"
    np.testing.assert_allclose(outputs, expected_outputs + 1, atol=1e-6, err_msg=message)
    np.testing.assert_allclose(state, expected_state, atol=1e-6, err_msg=message)
    *shapes, states = keras.layers.RNN.inner_loop(layer, tf.constant(sequences), [tf.constant(initial)], mask=None)
    assert [tuple(one.shape) for one in (*shapes, *states)] == [
        (BATCH, UNITS),
        (BATCH, TIME, UNITS),
        (BATCH, UNITS),
    ], message


@relies_on("Cells with dropout have `get_recurrent_dropout_mask` and `reset_recurrent_dropout_mask`.")
def test_recurrent_layers_get_the_masks_before_their_loop_and_discard_them_after_it():
    layer = Loop(recurrent_dropout=0.5)
    layer(numbers(BATCH, TIME, FEATURES), training=True)
    loop = layer.calls.index("inner_loop")
    assert "get_recurrent_dropout_mask" in layer.calls[:loop], (
        "Recurrent layers do not ask their cell for a dropout mask before the loop any more: `GRUCell` would draw the "
        "weights to drop inside the loop, where it cannot keep them"
    )
    assert layer.calls[-1] == "reset_recurrent_dropout_mask", (
        "Recurrent layers do not reset the dropout mask of their cell after the loop any more: `GRUCell` would drop the "
        "same weights in every batch"
    )


@relies_on("`keras.layers.GRUCell` has `dropout_mask_count` and `get_dropout_mask(step_input)`.")
def test_a_cell_draws_as_many_masks_as_it_has_blocks():
    cell = keras.layers.GRUCell(UNITS, dropout=0.5, implementation=1)
    cell.dropout_mask_count = 2
    assert len(cell.get_dropout_mask(tf.ones((BATCH, FEATURES)))) == 2, (
        "Cells do not read `dropout_mask_count` any more: a `GRUCell` without a reset gate needs two masks"
    )


@relies_on("`keras.layers.RNN.call` runs the loop over time through the attribute `inner_loop` of the layer.")
@pytest.mark.parametrize("kind", [layers.GRU, layers.LSTM, layers.SimpleRNN, layers.Bidirectional])
def test_with_inner_loop(kind):
    layer = layers.Bidirectional(layers.LSTM(UNITS)) if kind is layers.Bidirectional else kind(UNITS)
    inputs, called = numbers(BATCH, TIME, FEATURES), []
    expected = np.asarray(layer(inputs))

    def loop(one, sequences, initial_state, mask, training=False):
        called.append(one)
        return keras_internals.rnn_loop(one, sequences, initial_state, mask, training)

    recurrent = [part for part in keras_internals.all_layers(layer) if isinstance(part, layers.RNN)]
    with keras_internals.with_inner_loop(recurrent, loop):
        # With a mask, Bidirectional runs its two layers one by one.
        mask = keras.ops.ones((BATCH, TIME), "bool")
        np.testing.assert_allclose(layer(inputs, mask=mask), expected, rtol=0, atol=1e-6)
    assert called == recurrent
    np.testing.assert_allclose(layer(inputs), expected, rtol=0, atol=1e-6)
    assert called == recurrent


# Graphs of layers


@relies_on("Layers have `_flatten_layers()`.")
def test_all_layers():
    wrapped = layers.Dense(3, name="wrapped")
    inner = keras.Sequential([keras.Input((None, UNITS)), layers.TimeDistributed(wrapped)])
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), layers.RNN(layers.GRUCell(UNITS, name="cell"), return_sequences=True), inner]
    )
    names = {layer.name for layer in keras_internals.all_layers(model)}
    assert {model.name, inner.name, "wrapped", "cell"} <= names, (
        "`Layer._flatten_layers` does not return the model, nested models, wrapped layers and cells any more: stateful and "
        "float32 copies would leave layers unchanged"
    )


@relies_on("Symbolic tensors have `_keras_history`, and layers the list `_inbound_nodes`.")
def test_call_that_made():
    shared, inputs = layers.Dense(FEATURES), keras.Input((FEATURES,))
    first = shared(inputs)
    second = shared(first)
    calls = [keras_internals.call_that_made(tensor) for tensor in (first, second)]
    message = (
        "`_keras_history` does not tell the calls of a layer apart any more: `SampledSoftmax` needs the second one"
    )
    assert [call.operation for call in calls] == [shared, shared], message
    assert calls[0].inputs[0] is inputs, message
    assert calls[1].inputs[0] is first, message
    (tanh,) = keras_internals.call_that_made(keras.ops.tanh(second)).inputs
    assert tanh is second, message


@relies_on("`keras.Function` has `_nodes_by_depth`; nodes have `is_input`, `operation`, `arguments` and `outputs`.")
def test_calls_in_order():
    inputs = keras.Input((TIME, FEATURES))
    shared = layers.Dense(FEATURES)
    summed = layers.Add()([shared(inputs), inputs])
    model = keras.Model(inputs, keras.ops.clip(shared(summed), -1, x_max=1))
    calls = keras_internals.calls_in_order(model)
    kinds = [type(call.operation).__name__ for call in calls]
    assert kinds == ["Dense", "Add", "Dense", "Clip"], (
        "`Function._nodes_by_depth` does not hold every call any more: `step_model` needs another way to run a graph"
    )
    known = {id(inputs)}
    for call in calls:
        message = "`Function._nodes_by_depth` is not in the order of the graph any more"
        assert known.issuperset(map(id, call.inputs)), message
        known.update(map(id, call.outputs))
    last = calls[-1]
    assert last.args[0] is calls[-2].outputs[0], "The arguments of a node are not those of the call any more"
    assert last.outputs[0] is model.outputs[0], "The outputs of a node are not those of the call any more"


@relies_on("Layers read the masks that are attached to tensors as `_keras_mask`.")
def test_set_mask():
    values, mask = keras.ops.convert_to_tensor(numbers(BATCH, TIME, FEATURES)), keras.ops.arange(TIME)[None] < 2
    keras_internals.set_mask(values, keras.ops.repeat(mask, BATCH, axis=0))
    layer = layers.GlobalAveragePooling1D()
    np.testing.assert_allclose(layer(values), np.mean(values[:, :2], axis=1), rtol=0, atol=1e-6)


@relies_on("Layers attach masks to tensors as `_keras_mask`.")
def test_mask_of():
    tokens = keras.ops.convert_to_tensor([[1, 2, 0]])
    embedded = layers.Embedding(3, UNITS, mask_zero=True)(tokens)
    mask = keras_internals.mask_of(embedded)
    assert mask is not None, (
        "Layers do not attach masks as `_keras_mask` any more: `step_model` cannot remove them, and distributed training "
        "cannot refuse them"
    )
    message = "`_keras_mask` is not the mask of a tensor any more, None without one"
    np.testing.assert_array_equal(mask, [[True, True, False]], err_msg=message)
    assert keras_internals.mask_of(tokens) is None, message
    symbolic = layers.Embedding(3, UNITS, mask_zero=True)(keras.Input((None,), dtype="int32"))
    assert keras_internals.mask_of(symbolic) is not None, "Symbolic tensors have no `_keras_mask` any more"


# Training


@relies_on("Models have `_aggregate_additional_loss(loss)`.")
def test_additional_loss():
    model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.5))])
    expected = 0.5 * np.square(model.get_weights()[0]).sum()
    assert float(keras_internals.additional_loss(model)) == pytest.approx(expected, rel=1e-5), (
        "`Model._aggregate_additional_loss` does not return the sum of a regularizer any more: `SampledSoftmax` and "
        "distributed training would lose it"
    )
    assert keras_internals.additional_loss(compiled()) == 0, "A model without regularizers has an additional loss"


@pytest.mark.parametrize(
    ("clipping", "expected"),
    [
        ({}, [3.0, 4.0, 12.0]),
        ({"clipnorm": 1.0}, [0.6, 0.8, 1.0]),
        ({"global_clipnorm": 1.0}, [3 / 13, 4 / 13, 12 / 13]),
        ({"clipvalue": 3.5}, [3.0, 3.5, 3.5]),
    ],
)
@pytest.mark.parametrize("options", [{}, {"loss_scale_factor": 8.0}, {"gradient_accumulation_steps": 2}], ids=str)
@relies_on("The method `_clip_gradients(gradients)` of an optimizer can be replaced.")
def test_call_at_clipping(clipping, expected, options):
    optimizer = keras.optimizers.SGD(1.0, **clipping, **options)
    seen = []
    undo = keras_internals.call_at_clipping(optimizer, lambda gradients, clipped: seen.append((gradients, clipped)))
    scale = options.get("loss_scale_factor", 1.0)
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([0.0])]
    for part in (0.5, 1.5) if "gradient_accumulation_steps" in options else (1.0,):
        gradients = [tf.constant([3.0, 4.0]) * part * scale, tf.constant([12.0]) * part * scale]
        optimizer.apply(gradients, variables)
    assert len(seen) == 1, (
        "An update of the weights does not call `_clip_gradients` once: norms would be of other steps"
    )
    for name, arrays, right in zip(("gets", "returns"), seen[0], ([3.0, 4.0, 12.0], expected), strict=True):
        np.testing.assert_allclose(
            np.concatenate(arrays),
            right,
            rtol=1e-6,
            err_msg=f"`Optimizer._clip_gradients` {name} other gradients now: `GradientNorms` would show other norms",
        )
    np.testing.assert_allclose(
        np.concatenate([-variable.numpy() for variable in variables]),
        expected,
        rtol=1e-6,
        err_msg="An update does not use what `_clip_gradients` returns any more: `GradientNorms` would show other norms",
    )
    config = optimizer.get_config()
    undo()
    assert config == optimizer.get_config(), "`get_config` of an optimizer depends on its attribute `_clip_gradients`"
    assert "_clip_gradients" not in vars(optimizer), "An attribute of an optimizer cannot be removed again"


@relies_on("A `LossScaleOptimizer` passes unscaled gradients to its inner optimizer.")
def test_call_at_clipping_in_half_precision():
    inner = keras.optimizers.Adam(0.1, clipnorm=1e-3)
    model = compiled(optimizer=keras.optimizers.LossScaleOptimizer(inner))
    norm = keras.Variable(0.0, trainable=False)
    keras_internals.call_at_clipping(
        inner, lambda gradients, _: norm.assign(tf.linalg.global_norm([tf.convert_to_tensor(one) for one in gradients]))
    )
    inputs, targets = numbers(BATCH, FEATURES), np.ones((BATCH, 1), "float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(inputs) - targets))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    weights = model.get_weights()
    model.train_on_batch(inputs, targets)
    assert float(norm.numpy()) == pytest.approx(float(tf.linalg.global_norm(gradients)), rel=1e-4), (
        "A training step does not pass its gradients to `_clip_gradients` of the inner optimizer any more, unscaled: "
        "`GradientNorms` cannot measure them"
    )
    assert not np.allclose(weights[0], model.get_weights()[0]), "the optimizer does not apply the gradients any more"


@relies_on("`keras.callbacks.TensorBoard` has `_global_train_batch`.")
def test_set_tensorboard_step(tmp_path):
    callback = keras.callbacks.TensorBoard(tmp_path, write_graph=False, update_freq=1)
    model = compiled()
    callback.set_model(model)
    callback.on_train_begin()
    keras_internals.set_tensorboard_step(callback, 40)
    callback.on_train_batch_begin(0)
    callback.on_train_batch_end(0, {"loss": 1.0})
    callback.on_train_end()
    steps = {
        event.step
        for path in (tmp_path / "train").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        if any(value.tag == "batch_loss" for value in event.summary.value)
    }
    assert steps <= {40, 41}, (
        "TensorBoard does not count steps in `_global_train_batch` any more: resumed runs start at 0"
    )
    assert steps, "TensorBoard does not write `batch_loss` any more: this test cannot see the numbers of its steps"


# Distributed training


@pytest.mark.slow
@relies_on(
    "`MultiWorkerMirroredStrategy` configures the coordination service only if the context has no configuration."
)
def test_without_coordination_service():
    """In a process of its own, where a cluster of one worker can be connected; TensorFlow then leaves SIGTERM as it was."""
    code = """
import signal
from pathlib import Path
import tensorflow as tf
from keras_seq import keras_internals

def caught():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

keras_internals.without_coordination_service()
strategy = tf.distribute.MultiWorkerMirroredStrategy()
print(strategy.num_replicas_in_sync, caught())
"""
    [(output, _)] = run_all([[sys.executable, "-c", code]], worker_environments(1))
    assert output.split()[-2:] == ["1", "False"], output[-2000:]


@relies_on("Stateful recurrent layers have `states`, Keras variables with a TensorFlow variable as `value`.")
def test_is_carried_state():
    names = []

    def create(create, **options):
        names.append(options.get("name"))
        return create(**options)

    with tf.variable_creator_scope(create):
        layer = layers.GRU(UNITS, stateful=True)
        layer.build((BATCH, TIME, FEATURES))
    found = [name for name in names if keras_internals.is_carried_state(str(name))]
    assert len(found) == len(layer.states) == 1, (
        "Keras does not create the carried states as variables of the name `rnn_state` any more: under a strategy all "
        f"replicas would share one state. The names are {names}"
    )


class Doubles:
    def call(self, inputs, *arguments, **options):
        return 2 * super().call(inputs, *arguments, **options)


@relies_on("The class of a model can be replaced.")
def test_insert_base(tmp_path):
    model, inputs = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(1)]), numbers(BATCH, FEATURES)
    before = model(inputs).numpy()
    keras_internals.insert_base(model, Doubles)
    message = "Models do not take another class any more: distributed training cannot override their methods"
    assert isinstance(model, Doubles), message
    assert isinstance(model, keras.Sequential), message
    np.testing.assert_allclose(model(inputs), 2 * before, rtol=1e-6, err_msg=message)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    message = "A model whose class was replaced is not saved as its own class any more"
    assert type(loaded) is keras.Sequential, message
    np.testing.assert_allclose(loaded(inputs), before, rtol=1e-6, err_msg=message)


@relies_on("Optimizers have `_all_reduce_sum_gradients(grads_and_vars)`.")
def test_sum_before_clipping():
    calls = []

    class Recording:
        def _all_reduce_sum_gradients(self, grads_and_vars):
            calls.append([float(gradient) for gradient, _ in grads_and_vars])
            return super()._all_reduce_sum_gradients(grads_and_vars)

    variable, optimizer = keras.Variable(0.0), keras.optimizers.SGD(1.0, clipnorm=2.0)
    keras_internals.insert_base(optimizer, Recording)
    optimizer.apply_gradients([(tf.constant(3.0), variable)])
    assert calls == [[2.0]], (
        "`Optimizer.apply_gradients` does not pass the clipped gradients once to `_all_reduce_sum_gradients` any more: "
        "distributed training cannot move the clipping after the sum"
    )
    calls.clear()
    keras_internals.sum_before_clipping(optimizer)
    keras_internals.sum_before_clipping(optimizer)  # has no further effect
    optimizer.apply_gradients([(tf.constant(3.0), variable)])
    assert calls == [[3.0]], "`_SumBeforeClipping` does not sum the gradients before they are clipped any more"
    assert float(variable.numpy()) == -4, (
        "An optimizer with another class does not clip and apply the gradients any more"
    )


@relies_on("Models have `_maybe_symbolic_build(iterator, data_batch)` and `_symbolic_build(data_batch)`.")
def test_builds_from_one_replica():
    """Keras must ask for a symbolic build before the first step of `fit` and of `evaluate`, with an iterator of batches."""
    built = []

    class Recording(keras_internals.BuildsFromOneReplica):
        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            built.append("asked")
            super()._maybe_symbolic_build(iterator, data_batch)

        def _symbolic_build(self, iterator=None, data_batch=None):
            built.append([None if part is None else tuple(part.shape) for part in data_batch])
            super()._symbolic_build(iterator, data_batch)

    model = keras.Sequential([layers.Dense(1)])
    keras_internals.insert_base(model, Recording)
    model.compile("sgd", "mse", metrics=["mae"], jit_compile=False)
    data = tf.data.Dataset.from_tensors((numbers(BATCH, FEATURES), numbers(BATCH, 1)))
    for run in (model.fit, model.evaluate):
        built.clear()
        run(data, verbose=0)
        assert built == ["asked", [(BATCH, FEATURES), (BATCH, 1)]], (
            "`fit` and `evaluate` do not call `_maybe_symbolic_build(iterator=...)` before the first step any more: "
            "distributed training needs another way to build the metrics"
        )


@relies_on("Models have `make_train_function(force)` and `make_test_function(force)`.")
def test_fit_and_evaluate_take_their_step_from_the_public_functions():
    made = []

    class Recording:
        def make_train_function(self, force=False):
            made.append("train")
            return super().make_train_function(force)

        def make_test_function(self, force=False):
            made.append("test")
            return super().make_test_function(force)

    model = compiled()
    keras_internals.insert_base(model, Recording)
    data = tf.data.Dataset.from_tensors((numbers(BATCH, FEATURES), numbers(BATCH, 1)))
    model.fit(data, verbose=0)
    model.evaluate(data, verbose=0)
    assert made == ["train", "test"], "`fit` and `evaluate` do not call `make_train_function` and `make_test_function`"


def test_every_function_has_a_test():
    public = {
        name
        for name, value in vars(importlib.import_module("keras_seq.keras_internals")).items()
        if getattr(value, "__module__", None) == "keras_seq.keras_internals" and not name.startswith("_")
    }
    source = Path(__file__).read_text(encoding="utf-8")
    untested = {name for name in public if f"keras_internals.{name}" not in source} - {"SymbolicCall"}
    assert not untested, "A function of `keras_internals` has no test here"


def test_a_missing_name_fails_with_the_sentence():
    with pytest.raises(pytest.fail.Exception, match=r"not so any more: Layers have `gone`\. AttributeError: .*gone"):  # noqa: SIM117
        with relies_on("Layers have `gone`."):
            layers.Dense(1).gone()


@relies_on("a layer of Keras is its `__dict__`, and a convolution reads its `padding` when it is called.")
def test_layer_with():
    layer = layers.Conv1D(UNITS, 2, padding="causal")
    inputs = numbers(BATCH, TIME, FEATURES)
    causal = np.asarray(layer(inputs))
    valid = keras_internals.layer_with(layer, padding="valid")
    np.testing.assert_allclose(valid(inputs), causal[:, 1:], rtol=0, atol=1e-6)
    assert layer.padding == "causal"
    assert valid.kernel is layer.kernel


@relies_on("a recurrent layer reads `stateful`, `return_sequences` and `return_state` when it is called.")
def test_layer_with_other_outputs_of_a_recurrent_layer():
    layer = layers.GRU(UNITS, stateful=True)
    inputs = numbers(BATCH, TIME, FEATURES)
    last = np.asarray(layer(inputs))
    other = keras_internals.layer_with(layer, stateful=False, return_sequences=True, return_state=True)
    for _ in range(2):  # It does not carry its state.
        outputs, state = other(inputs)
        np.testing.assert_allclose(outputs[:, -1], last, rtol=0, atol=1e-6)
        np.testing.assert_allclose(state, last, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(layer.states[0], last)
