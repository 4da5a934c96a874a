"""Each operator of the C decoder against LiteRT's own, bit for bit: in NumPy, and in C."""

import micro_session as c
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from integer_graph import IntegerGraph

import keras_seq as ks
from keras_seq_export.errors import ExportError
from keras_seq_export.micro.execute import Execution
from keras_seq_export.micro.memory import planned
from keras_seq_export.micro.reading import read_program

_KERNELS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.BUILTIN_REF)
_UNITS = 37  # neither a multiple of 4 nor of 16
_RELU = schema.ActivationFunctionType.RELU


def frames(size, steps=40, seed=0):
    """Numbers of any size, the smallest and the largest among them."""
    generator = np.random.default_rng(seed)
    limits = 2.0 ** generator.uniform(1, 16, (steps, 1))
    found = np.clip(np.rint(generator.uniform(-1, 1, (steps, size)) * limits), -32768, 32767).astype(np.int16)
    found[0, ::2], found[1], found[2] = 32767, -32768, 32767
    return found


def require_same(graph, given, session):
    """Runs frames in LiteRT with each of its kernels, in NumPy and in C."""
    content = graph.pack()
    memory = planned(read_program(content))
    execution = Execution(memory)
    ours = np.stack([execution.step(frame) for frame in given])
    for kernels in _KERNELS:
        runner = Interpreter(model_content=content, experimental_op_resolver_type=kernels).get_signature_runner(
            "decode"
        )
        expected = np.stack([runner(frame=frame[None])["output"][0] for frame in given])
        np.testing.assert_array_equal(ours, expected)
    answers = session(memory).run(*map(c.frame, given))
    np.testing.assert_array_equal([one.numbers for one in answers[1:]], ours)


def two_rows(graph, scale, size=_UNITS):
    """The input, as two rows."""
    given = graph.input("frame", (1, 2 * size), scale)
    axis = graph.constant(np.int32(-1).reshape(()))
    return graph.add("SPLIT", [axis, given], (1, size), scale, outputs=2, numSplits=2)


@pytest.mark.parametrize("scale", [2.0**-13, 0.00071])
@pytest.mark.parametrize("name", ["ADD", "SUB"])
@pytest.mark.parametrize("relu", [0, _RELU])
def test_sums(name, scale, relu, session):
    graph = IntegerGraph()
    total = graph.add(name, two_rows(graph, scale), (1, _UNITS), scale, fusedActivationFunction=relu)
    graph.output("output", total)
    require_same(graph, frames(2 * _UNITS), session)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    "values", [np.int16([[8191]]), np.int16([8191]), frames(_UNITS, 4)[3:]], ids=["1x1", "1", "row"]
)
def test_sums_with_a_constant(values, is_first, session):
    graph = IntegerGraph()
    given, constant = graph.input("frame", (1, _UNITS), 2.0**-13), graph.constant(values, 2.0**-13)
    pair = [constant, given] if is_first else [given, constant]
    graph.output("output", graph.add("SUB", pair, (1, _UNITS), 2.0**-13))
    require_same(graph, frames(_UNITS), session)


@pytest.mark.parametrize("shift", [1, 2, 11, 13, 15, 16, 17, 25, 30])
def test_products_of_numbers_round_alike(shift, session):
    graph = IntegerGraph()
    graph.output("output", graph.add("MUL", two_rows(graph, 2.0**-15), (1, _UNITS), 2.0 ** (shift - 30)))
    given = frames(2 * _UNITS)
    given[3:, _UNITS:] &= -(2 ** min(shift // 2, 8))  # many ties
    given[20:, :_UNITS] &= -(2 ** min(shift - shift // 2 - 1, 8))
    require_same(graph, given, session)


def test_a_constant_factor(session):
    graph = IntegerGraph()
    given, one = graph.input("frame", (1, _UNITS), 2.0**-15), graph.constant(np.int16([16384]), 2.0**-14)
    graph.output("output", graph.add("MUL", [given, one], (1, _UNITS), 2.0**-13))
    require_same(graph, frames(_UNITS), session)


@pytest.mark.parametrize("scale", [2.0**-13, 2.0**-10, 0.00071, 1e-6, 0.7])
@pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
def test_activations(name, scale, session):
    graph = IntegerGraph()
    graph.output("output", graph.add(name, [graph.input("frame", (1, 1024), scale)], (1, 1024), 2.0**-15))
    require_same(graph, np.arange(-32768, 32768).astype(np.int16).reshape(64, 1024), session)


@pytest.mark.parametrize("limit", [8191, 100])
def test_limits(limit, session):
    graph = IntegerGraph()
    given = graph.input("frame", (1, _UNITS), 2.0**-13)
    bounded = graph.add("MINIMUM", [given, graph.constant(np.int16([limit]), 2.0**-13)], (1, _UNITS), 2.0**-13)
    graph.output("output", graph.add("QUANTIZE", [bounded], (1, _UNITS), 2.0**-15))
    require_same(graph, frames(_UNITS), session)


def test_a_limit_alone_and_a_shift_alone(session):
    graph = IntegerGraph()
    one, other = two_rows(graph, 2.0**-13)
    limit = graph.constant(np.int16([[500]]), 2.0**-13)
    bounded = graph.add("MINIMUM", [limit, one], (1, _UNITS), 2.0**-13)
    shifted = graph.add("QUANTIZE", [other], (1, _UNITS), 2.0**-16)
    again = graph.add("QUANTIZE", [graph.add("ADD", [bounded, bounded], (1, _UNITS), 2.0**-13)], (1, _UNITS), 2.0**-16)
    graph.output("output", graph.add("ADD", [shifted, again], (1, _UNITS), 2.0**-16))
    require_same(graph, frames(2 * _UNITS), session)


def product(graph, given, inputs, outputs, shift, seed=0, relu=0, scale=0.0123):
    """A dense layer of multiples of 4, with weights of any size and biases without ties."""
    generator = np.random.default_rng(seed)
    weights = generator.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    weights[0], weights[-1] = -128, 127
    biases = (generator.integers(-(2**20), 2**20, outputs) * 4 + 2).astype(np.int32)
    bounded = graph.add("MINIMUM", [given, graph.constant(np.int16([8191]), 2.0**-13)], (1, inputs), 2.0**-13)
    numbers = graph.add("QUANTIZE", [bounded], (1, inputs), 2.0**-15)
    matrix, bias = graph.constant(weights, scale), graph.constant(biases, np.float32(scale) * 2.0**-15)
    result = np.float32(scale) * np.float32(2.0 ** (shift - 15))
    return graph.add("FULLY_CONNECTED", [numbers, matrix, bias], (1, outputs), result, fusedActivationFunction=relu)


@pytest.mark.parametrize("relu", [0, _RELU])
@pytest.mark.parametrize(("inputs", "outputs", "shift"), [(37, 7, 3), (64, 16, 11), (1, 1, 4), (3, 5, 9), (511, 4, 14)])
def test_dense_layers(inputs, outputs, shift, relu, session):
    graph = IntegerGraph()
    given = graph.input("frame", (1, inputs), 2.0**-13)
    graph.output("output", product(graph, given, inputs, outputs, shift, relu=relu))
    require_same(graph, frames(inputs), session)


@pytest.mark.parametrize("shift", [3, 10, 25, 30])
def test_a_dense_layer_of_zeros_gives_its_biases(shift, session):
    graph = IntegerGraph()
    given = graph.input("frame", (1, 9), 2.0**-15)
    biases = np.int32([2, -2, 2**29 + 6, -(2**29) - 6, 2**30 - 2, 12345678, -77777774])
    scale = np.float32(1.1 * 2.0**-100)
    inputs = [
        given,
        graph.constant(np.zeros((7, 9), np.int8), scale),
        graph.constant(biases, scale * np.float32(2**-15)),
    ]
    graph.output("output", graph.add("FULLY_CONNECTED", inputs, (1, 7), scale * np.float32(2.0 ** (shift - 15))))
    require_same(graph, frames(9), session)


def test_views_and_copies(session):
    """Slices, reshapes and concatenations."""
    graph = IntegerGraph()
    given, scale = graph.input("frame", (1, 12), 2.0**-13), 2.0**-13
    begin, end, strides = (graph.constant(np.int32(values)) for values in ([0, 4], [0, 9], [1, 1]))
    part = graph.add("STRIDED_SLICE", [given, begin, end, strides], (1, 5), scale, beginMask=1, endMask=1)
    flat = graph.add("RESHAPE", [part, graph.constant(np.int32([5]))], (5,), scale)
    again = graph.add("RESHAPE", [flat, graph.constant(np.int32([1, 5]))], (1, 5), scale)
    whole = graph.add("CONCATENATION", [again, given, again], (1, 22), scale)
    graph.output("output", graph.add("ADD", [whole, whole], (1, 22), scale))
    require_same(graph, frames(12), session)


def test_states_stay_from_step_to_step(session):
    """One is replaced, one is kept, one takes the value of another, and one is an output of the step too."""
    graph, scale = IntegerGraph(), 2.0**-13
    given = graph.input("frame", (1, 8), scale)
    first, second, third, kept = (graph.input(f"state_{number}", (1, 8), scale) for number in range(4))
    total = graph.add("ADD", [first, given], (1, 8), scale)
    graph.output("output", graph.add("SUB", [total, third], (1, 8), scale))
    for name, number in (("state_0", total), ("state_1", first), ("state_2", second), ("state_3", kept)):
        graph.output(name, number)
    content = graph.pack()
    starts = {f"state_{number}": frames(8, seed=number)[4:5] for number in range(4)}
    memory = planned(read_program(content, starts))
    execution = Execution(memory)
    runner = Interpreter(model_content=content).get_signature_runner("decode")
    states, expected = dict(starts), []
    for row in frames(8):
        expected.append(runner(frame=row[None], **states))
        states = {name: value for name, value in expected[-1].items() if name != "output"}
        np.testing.assert_array_equal(execution.step(row), expected[-1]["output"][0])
        np.testing.assert_array_equal(execution.states(), [states[f"state_{number}"][0] for number in range(4)])
    answers = session(memory).run(*map(c.frame, frames(8)), "v\n")
    np.testing.assert_array_equal([one.numbers for one in answers[1:-1]], [one["output"][0] for one in expected])
    np.testing.assert_array_equal(answers[-1].numbers, np.concatenate([states[f"state_{i}"][0] for i in range(4)]))


@pytest.mark.parametrize("is_view", [False, True])
def test_an_output_may_be_an_old_state(is_view, session):
    """The output is what the state was before the step, or a part of it."""
    graph, scale = IntegerGraph(), 2.0**-13
    given, state = graph.input("frame", (1, 8), scale), graph.input("state_0", (1, 8), scale)
    axis = graph.constant(np.int32(1).reshape(()))
    output = graph.add("SPLIT", [axis, state], (1, 4), scale, outputs=2, numSplits=2)[1] if is_view else state
    graph.output("output", output)
    graph.output("state_0", given if is_view else graph.add("ADD", [given, given], (1, 8), scale))
    memory = planned(read_program(graph.pack()))
    rows = frames(8)
    new = rows if is_view else np.clip(2 * rows.astype(int), -32768, 32767)
    expected = np.concatenate([np.zeros((1, 8), int), new[:-1]])[:, 4 * is_view :]
    execution = Execution(memory)
    np.testing.assert_array_equal([execution.step(row) for row in rows], expected)
    answers = session(memory).run(*map(c.frame, rows))
    np.testing.assert_array_equal([one.numbers for one in answers[1:]], expected)


def test_a_draw_does_not_change_a_state_that_is_the_logits(session):
    """A draw adds biases to the logits."""
    vocabulary = ks.Vocabulary.from_text("abc")
    graph, scale, size = IntegerGraph(), 2.0**-13, len(vocabulary)
    table = np.random.default_rng(0).integers(-128, 128, (size, size)).astype(np.int8)
    total = graph.add("ADD", [lookup(graph, table, 3), graph.input("state_0", (1, size), scale)], (1, size), scale)
    graph.output("logits", total)
    graph.output("state_0", total)
    memory = planned(read_program(graph.pack()))
    execution = Execution(memory)
    expected = [execution.step(token) for token in (3, 4, 3)]
    answers = session(memory, vocabulary).run(*(one for token in (3, 4, 3) for one in (c.step(token), c.choose(7))))
    np.testing.assert_array_equal([one.numbers for one in answers[1::2]], expected)
    assert all(one.status == c.OK and int(one.rest[0]) >= 2 for one in answers[2::2])


def test_a_model_of_tokens_without_a_vocabulary_draws(session):
    """The draw follows the logits: a step of 0 would take all tokens for equally likely."""
    graph = IntegerGraph()
    table = np.full((5, 5), -100, np.int8)
    table[:, 3] = 100
    graph.output("logits", lookup(graph, table, 200, 2.0**-10))
    answers = session(planned(read_program(graph.pack()))).run(
        c.step(0), *(c.choose(seed) for seed in range(30)), c.text("p", "a"), c.suggest("a")
    )
    assert all(one == (c.OK, 0, ["3"]) for one in answers[2:32])
    assert [one.status for one in answers[32:]] == [c.NOT_OF_TEXT] * 2


def lookup(graph, table, factor, scale=2.0**-13):
    token = graph.input("token", (1,), dtype=np.int32)
    row = graph.add(
        "GATHER", [graph.constant(table, factor * scale), token], (1, table.shape[1]), factor * scale, dtype=np.int8
    )
    return graph.add("QUANTIZE", [row], (1, table.shape[1]), scale)


def test_rows_of_a_table(session):
    graph = IntegerGraph()
    table = np.random.default_rng(0).integers(-128, 128, (50, 9)).astype(np.int8)
    row = lookup(graph, table, 252)
    parts = graph.add("SPLIT", [graph.constant(np.int32(1).reshape(())), row], (1, 3), 2.0**-13, outputs=3, numSplits=3)
    both = graph.add("ADD", [parts[2], parts[0]], (1, 3), 2.0**-13)
    graph.output("logits", graph.add("SUB", [both, parts[1]], (1, 3), 2.0**-13))
    content = graph.pack()
    memory = planned(read_program(content))
    runner = Interpreter(model_content=content).get_signature_runner("decode")
    expected = [runner(token=np.int32([token]))["logits"][0] for token in range(50)]
    np.testing.assert_array_equal([Execution(memory).step(token) for token in range(50)], expected)
    answers = session(memory).run(*map(c.step, range(51)))
    np.testing.assert_array_equal([one.numbers for one in answers[1:-1]], expected)
    assert answers[-1].status == c.NO_TOKEN
    assert memory.size <= 8  # one part at a time


def refused(graph):
    with pytest.raises(ExportError) as caught:
        read_program(graph.pack())
    return str(caught.value)


def alone(name, scales, shapes=((1, 8), (1, 8)), dtype=np.int16, **options):
    """A graph of one operator of one input."""
    graph = IntegerGraph()
    given = graph.input("frame", shapes[0], scales[0], dtype=dtype)
    graph.output("output", graph.add(name, [given], shapes[1], scales[1], **options))
    return graph


def test_what_could_give_other_integers_is_refused():
    assert "operator 0 of the graph, RELU, has no form in the C decoder, which runs ADD, " in refused(
        alone("RELU", (0.1, 0.1))
    )
    assert "LOGISTIC, must be one whose result has the scale 2^-15" in refused(alone("LOGISTIC", (0.1, 2.0**-14)))
    assert "LOGISTIC of numbers of the scale 0.000244141 has no form" in refused(
        alone("LOGISTIC", (2.0**-12, 2.0**-15))
    )
    assert "QUANTIZE, must be one whose scales have the ratio 2^-k" in refused(alone("QUANTIZE", (0.1, 0.03)))
    assert "QUANTIZE, must be one whose scales have the ratio 2^-k" in refused(alone("QUANTIZE", (2.0**-15, 2.0**-13)))
    assert "the input frame has no form" in refused(alone("TANH", (0.1, 2.0**-15), dtype=np.int8))
    assert "RESHAPE, must be one whose tensors have one scale" in refused(alone("RESHAPE", (0.1, 0.2)))
    assert "must have one scale" in refused(alone("TANH", (None, 2.0**-15)))


@pytest.mark.parametrize("name", ["ADD", "SUB"])
def test_a_sum_of_other_scales_is_refused(name):
    graph = IntegerGraph()
    pair = [graph.input("frame", (1, 8), 2.0**-13), graph.constant(frames(8, 4)[3:], 2.0**-12)]
    graph.output("output", graph.add(name, pair, (1, 8), 2.0**-12))
    assert f"{name}, must be one whose tensors have one scale" in refused(graph)


def dense(weights, biases, scale=0.5, ratio=2.0**-4, step=4):
    graph = IntegerGraph()
    given = graph.input("frame", (1, weights.shape[1]), 2.0**-15 * step)
    if step > 1:
        limit = graph.constant(np.int16([32767 // step]), 2.0**-15 * step)
        given = graph.add("MINIMUM", [given, limit], (1, weights.shape[1]), 2.0**-15 * step)
        given = graph.add("QUANTIZE", [given], (1, weights.shape[1]), 2.0**-15)
    inputs = [given, graph.constant(weights, scale), graph.constant(biases, scale * 2.0**-15)]
    graph.output("output", graph.add("FULLY_CONNECTED", inputs, (1, len(weights)), scale * 2.0**-15 / ratio))
    return graph


def test_dense_layers_that_could_round_or_overflow_are_refused():
    weights = np.full((2, 600), 127, np.int8)
    assert "must be one whose sums fit 32 bits" in refused(dense(weights, np.int32([2, 2])))
    weights = np.full((2, 60), 127, np.int8)
    read_program(dense(weights, np.int32([2, 2])).pack())
    found = refused(dense(weights, np.int32([8, 2])))
    assert "must be one whose sums are never halfway between two results" in found
    assert found.endswith("Received: 1 rows")
    assert "never halfway" in refused(dense(weights, np.int32([2, 2]), step=1))
    assert "never halfway" in refused(dense(weights, np.int32([3, 2])))  # 2 after the first rounding
    assert "ratio 2^-k, k from 1 to 30" in refused(dense(weights, np.int32([2, 2]), ratio=0.3))
    assert "ratio 2^-k, k from 1 to 30" in refused(dense(weights, np.int32([2, 2]), ratio=2.0))


def test_a_table_that_would_saturate_is_refused():
    graph = IntegerGraph()
    graph.output("logits", lookup(graph, np.full((4, 3), 127, np.int8), 300))
    assert "QUANTIZE, must be one that multiplies by an integer without saturating" in refused(graph)


@pytest.mark.parametrize(("factor", "value"), [(32768, 0), (2.0**70, 1), (2.0**-70, 1), (40000, 0)])
def test_factors_of_a_table(factor, value):
    graph = IntegerGraph()
    graph.output("logits", lookup(graph, np.full((4, 3), value, np.int8), factor))
    if value:
        assert "QUANTIZE, must be one that multiplies by an integer without saturating" in refused(graph)
        return
    memory = planned(read_program(graph.pack()))
    assert [one.factor for one in memory.program.operators] == [1]
    assert not Execution(memory).step(2).any()


def test_states_in_a_circle_are_refused():
    graph = IntegerGraph()
    given, one, other = (graph.input(name, (1, 4), 0.1) for name in ("frame", "state_0", "state_1"))
    graph.output("output", graph.add("ADD", [given, one], (1, 4), 0.1))
    graph.output("state_0", other)
    graph.output("state_1", one)
    with pytest.raises(ExportError, match="in a circle"):
        planned(read_program(graph.pack()))
