"""Zeros that FILL writes: the same outputs, a smaller file, and no other constant changed."""

import copy

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hamlet import TEXT, small_model

from keras_seq_export import LiteRTSampler, export_tflite
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.filled_zeros import fill_zeros


@pytest.fixture(scope="module")
def converted():
    """A model with zeros that a loop and a variable begin with, and with zeros that are weights."""
    weights = np.zeros((48, 32), np.float32)
    kernel = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)

    class Sums(tf.Module):
        def __init__(self):
            self.total = tf.Variable(tf.zeros([64, 32]))

        @tf.function(input_signature=[tf.TensorSpec([64, 32], tf.float32, "values")])
        def add(self, values):
            def advance(position, sums, counts, small):
                return (
                    position + 1,
                    sums + values @ kernel,
                    counts + tf.cast(values > 0, tf.int32),
                    small + values[:4, :4],
                )

            _, sums, counts, small = tf.while_loop(
                lambda position, *_: position < 3,
                advance,
                (tf.constant(0), tf.zeros([64, 32]), tf.zeros([64, 32], tf.int32), tf.zeros([4, 4])),
            )
            self.total.assign_add(sums)
            dead = tf.matmul(values, weights, transpose_b=True)
            return {"total": self.total.read_value(), "counts": counts, "dead": dead + 1, "small": small}

    module = Sums()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.add.get_concrete_function()], module)
    converter.experimental_enable_resource_variables = True
    return converter.convert()


def outputs(content):
    """Returns the outputs of two calls, of which the second adds to the variable of the first."""
    runner = Interpreter(model_content=content).get_signature_runner()
    values = np.random.default_rng(1).normal(size=(2, 64, 32)).astype(np.float32)
    return [runner(values=one) for one in values]


def filled(content):
    model = flatbuffer.parse(content)
    fill_zeros(model)
    flatbuffer.remove_unused_tensors(model)
    return model


def large_zeros(model):
    """Returns the readers of each constant of zeros, at least 1,024 of them."""
    readers = flatbuffer.count_readers(model)
    return [
        {name for name, _ in readers[number]}
        for number, one in enumerate(model.buffers)
        if one.data is not None and len(one.data) >= 4096 and not np.any(one.data)
    ]


def test_the_file_shrinks_and_weights_stay(converted):
    model = flatbuffer.parse(converted)
    assert sorted(map(sorted, large_zeros(model))) == [["ASSIGN_VARIABLE", "WHILE"], ["FULLY_CONNECTED"]]
    assert large_zeros(filled(converted)) == [{"FULLY_CONNECTED"}]
    assert len(flatbuffer.pack(filled(converted))) < len(flatbuffer.pack(model)) - 6000


def with_readers(converted, name):
    """Returns the model in which the first loop also gives its zeros to an operator of another kind."""
    model = flatbuffer.parse(converted)
    for graph in model.subgraphs:
        for operator in graph.operators:
            if flatbuffer.operator_name(model, operator) == name:
                return model, graph, operator
    raise AssertionError(name)


def test_zeros_with_another_reader_stay(converted):
    """The converter stores equal constants once, and an operator may need a constant, such as weights of zeros."""
    model, graph, loop = with_readers(converted, "WHILE")
    zeros = next(
        index
        for index in loop.inputs
        if (data := model.buffers[graph.tensors[index].buffer].data) is not None and len(data) == 8192
    )
    tensor = graph.tensors[zeros]
    result = flatbuffer.add_tensor(graph, b"result", tensor.type, tensor.shape)
    graph.operators.append(flatbuffer.new_operator(model, "ADD", [zeros, zeros], [result]))
    before = copy.deepcopy([one.data for one in model.buffers])
    kept = tensor.buffer
    fill_zeros(model)
    np.testing.assert_array_equal(model.buffers[kept].data, before[kept])
    assert tensor.buffer == kept


def test_numbers_that_are_not_zero_stay(converted):
    """A negative zero has a bit, which FILL would not write."""
    model, graph, loop = with_readers(converted, "WHILE")
    changed = []
    for index in loop.inputs:
        data = model.buffers[graph.tensors[index].buffer].data
        if data is not None and len(data) == 8192:
            data = np.array(data)
            data[-1] = 0x80
            model.buffers[graph.tensors[index].buffer].data = data
            changed.append(graph.tensors[index].buffer)
    assert changed
    fill_zeros(model)
    assert all(len(model.buffers[buffer].data) == 8192 for buffer in changed)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["explicit", "internal"])
def test_files_of_many_rows(state, tmp_path):
    """The tokens and log-probabilities of `write`, or the states, are 2,048 zeros of int32 and of float32."""
    model, vocabulary = small_model()
    export_tflite(model, vocabulary, tmp_path / "a.tflite", batch=64, state=state)
    export_tflite(model, vocabulary, tmp_path / "b.tflite", state=state)
    texts = [
        LiteRTSampler(tmp_path / name).sample(TEXT[:9], max_tokens=40, seed=1) for name in ("a.tflite", "b.tflite")
    ]
    assert texts[0] == texts[1]
