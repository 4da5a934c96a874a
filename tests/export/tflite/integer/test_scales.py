"""Which tensors have one scale, and which of them a power of two."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from integer_steps import NAMES, contents_of

from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.integer.graph import StepGraph
from keras_seq_export.tflite.integer.groups import groups_of
from keras_seq_export.tflite.integer.ngrams import separate_ngrams
from keras_seq_export.tflite.integer.ranges import ranges_of
from keras_seq_export.tflite.integer.scales import scales_of


def graph_of(name):
    graph = StepGraph(flatbuffer.parse(contents_of(name)[0]))
    graph.remove_log_softmax()
    separate_ngrams(graph)
    return graph


@pytest.mark.parametrize("name", NAMES)
def test_each_number_is_in_one_group(name):
    groups = groups_of(graph_of(name))
    numbers = [index for group in groups.powers + groups.sums for index in group]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("name", NAMES)
def test_summands_have_the_scale_of_their_sum(name):
    model = flatbuffer.parse(contents_of(name)[1])
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if flatbuffer.operator_name(model, operator) in ("ADD", "SUB"):
            tensors = [graph.tensors[index] for index in (*operator.inputs, *operator.outputs)]
            if tensors[0].type == schema.TensorType.INT32:  # token ids
                continue
            assert len({float(tensor.quantization.scale[0]) for tensor in tensors}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_what_is_multiplied_has_a_power_of_two_and_sixteen_bits_hold_all(name):
    graph = graph_of(name)
    ranges = ranges_of(graph, 1.0)
    scales = scales_of(graph, ranges)
    for index, scale in scales.of.items():
        is_read = any(graph.name(one) == "FULLY_CONNECTED" for one in graph.readers(index))
        if is_read or index in [state.before for state in graph.states]:
            assert np.frexp(scale)[0] == 0.5
        if index not in scales.embeddings:
            assert ranges.of[index].largest <= 32768 * scale


def test_a_state_of_one_is_cut_off_to_8191():
    graph = graph_of("GRU")
    assert scales_of(graph, ranges_of(graph, 1.0)).of[graph.states[0].before] == 2.0**-13


def test_the_memory_of_an_lstm_reaches_32():
    graph = graph_of("LSTM")
    assert scales_of(graph, ranges_of(graph, 1.0)).of[graph.states[1].before] == 2.0**-10
