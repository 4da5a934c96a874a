"""Ranges from the weights alone: they hold whatever a step computes."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from integer_steps import NAMES, TOKENS, contents_of

from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.integer.graph import StepGraph
from keras_seq_export.tflite.integer.ngrams import separate_ngrams
from keras_seq_export.tflite.integer.ranges import MEMORY_RANGE, ranges_of


def graph_of(name):
    graph = StepGraph(flatbuffer.parse(contents_of(name)[0]))
    separate_ngrams(graph)
    return graph


@pytest.mark.parametrize("name", NAMES)
def test_no_number_of_a_step_leaves_its_range(name):
    graph = graph_of(name)
    graph.remove_log_softmax()
    ranges = ranges_of(graph, 1.0)
    interpreter = Interpreter(model_content=contents_of(name)[0], experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    stored = {one["index"] for one in interpreter.get_tensor_details()}  # Rows of n-grams are one tensor there.
    generator = np.random.default_rng(4)
    for step in range(100):
        interpreter.set_tensor(graph.inputs["token"], generator.integers(TOKENS, size=1, dtype=np.int32))
        for state in graph.states:
            largest = MEMORY_RANGE if state.before in ranges.memories else 1.0
            ends = (-largest, largest) if step % 2 else (0, largest)
            values = generator.choice(ends, graph.shape(state.before)) * generator.uniform(0.9, 1)
            interpreter.set_tensor(state.before, values.astype(np.float32))
        for state in set(graph.all_states).difference(graph.states):
            interpreter.set_tensor(state.before, generator.choice(TOKENS, graph.shape(state.before)).astype(np.float32))
        interpreter.invoke()
        memories = {state.after for state in graph.states if state.before in ranges.memories}
        for operator in graph.operators:
            for index in stored.intersection(map(int, operator.outputs)) - memories:
                low, high = ranges.of[index]
                values = interpreter.get_tensor(index)
                assert (values >= low - 1e-4).all()
                assert (values <= high + 1e-4).all()


def test_the_states_of_a_gru_stay_within_one():
    graph = graph_of("two layers")
    ranges = ranges_of(graph, 1.0)
    assert not ranges.memories
    assert [ranges.of[state.after].largest for state in graph.states] == [1.0, 1.0]


def test_only_the_memory_of_an_lstm_is_a_sum_over_all_steps():
    graph = graph_of("LSTM")
    output, memory = graph.states
    ranges = ranges_of(graph, 1.0)
    assert ranges.memories == {memory.before}
    assert ranges.of[output.after].largest == 1.0
