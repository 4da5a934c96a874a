"""Models of several inputs and outputs, encoders and convolutions: step by step they are the whole model, in files too."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from brought_models import SIZE, TEXT, VOCABULARY
from sequence_models import (
    CONVOLUTIONS,
    ENCODERS,
    FRAMES,
    INNER,
    ONE_OF_EACH,
    REFUSED,
    TEXTS,
    randomized,
)

import keras_seq as ks
from keras_seq.models.step_model import stepped
from keras_seq_export import LiteRTSampler, export_tflite
from keras_seq_export.tflite.decoder import LiteRTDecoder

ROWS = 2
TOLERANCE = 1e-5
STEPS = 40  # more than twice what most of these models look back
MANY = 128  # more than those look back that are dilated by 40 or 100 frames
FEW = 12  # steps, of models with a loop in each step, which Keras runs slowly
# Training takes longer than the export. These have several outputs, an encoder, and moving averages.
TRAINED = ("gains and voice activity of a noise suppressor", "translation", "trigger word")


@functools.cache
def model_of(name):
    """A model with random weights: one for all tests, because its one-step form takes long to make and compare."""
    return randomized({**FRAMES, **TEXTS}[name]())


def steps_of(name, model, frames):
    """The number of steps to compare: more than the model looks back, or as many as it takes."""
    length = next(tensor.shape[1] for tensor in model.inputs if len(tensor.shape) > 2 or tensor.shape[1] is None)
    return length // frames if length else FEW if name in INNER else MANY if "dilated by" in name else STEPS


def inputs_for(model, known, steps):
    """Random values for each input of the model; those that are read step by step have `steps` steps."""
    random = np.random.default_rng(1)
    values = []
    for given in known.graph.inputs:
        shape = list(given.tensor.shape[1:])
        if given.is_stepped:
            shape[0] = given.tensor.shape[1] or steps * known.graph.frames
        elif shape[:1] == [None]:
            shape[0] = 9
        if given.tensor.dtype == "bool":
            values.append(random.random((ROWS, *shape)) < 0.7)
        elif "int" in given.tensor.dtype or given.is_token:
            values.append(random.integers(0, given.token_count or SIZE, (ROWS, *shape)).astype(np.int32))
        else:
            values.append(random.normal(size=(ROWS, *shape)).astype(np.float32))
    return values


@functools.cache
def function_of(model):
    """The model as a graph, which takes less time over many steps than one operation after the other."""
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]

    @tf.function(input_signature=signature, autograph=False)
    def outputs(*values):
        return keras.tree.flatten(model(keras.tree.pack_sequence_as(model.input, values), training=False))

    return outputs


def whole(model, values):
    return [np.asarray(output, np.float32) for output in function_of(model)(*values)]


def expected(model, known, values, steps):
    """Yields an output, a step, and what the whole model gives for it."""
    frames = known.graph.frames
    outputs = whole(model, values)
    for index, output in enumerate(known.graph.outputs):
        if not output.so_far:
            count = outputs[index].shape[1] // output.frames
            for step in range(min(count, steps - output.delay)):
                part = outputs[index][:, step * output.frames : (step + 1) * output.frames]
                yield index, step + output.delay, part if output.frames > 1 else part[:, 0]
            continue
        yield index, steps - 1, outputs[index]
        if all(tensor.shape[1] is None for tensor in model.inputs if len(tensor.shape) > 2):
            for step in (output.delay, steps // 3):
                given = zip(known.graph.inputs, values, strict=True)
                prefix = [one[:, : (step + 1) * frames] if kind.is_stepped else one for kind, one in given]
                yield index, step, whole(model, prefix)[index]


def walk(step, values, states, steps, frames):
    """The outputs of each step, from a function of the values of a step and the states."""
    outputs = []
    for index in range(steps):
        part = [one[:, index * frames : (index + 1) * frames] for one in values]
        answer, states = step(part if frames > 1 else [one[:, 0] for one in part], states)
        outputs.append([np.array(one) for one in answer])
    return outputs


def largest_difference(model, known, values, steps, outputs):
    differences = [0.0]
    for index, step, value in expected(model, known, values, steps):
        assert outputs[step][index].shape == value.shape
        differences.append(float(np.abs(outputs[step][index] - value).max() / max(1.0, np.abs(value).max())))
    assert len(differences) > 1
    return max(differences)


def difference_in_keras(name):
    model = model_of(name)
    known = stepped(model)
    steps = steps_of(name, model, known.graph.frames)
    values = inputs_for(model, known, steps)
    count = len(known.graph.outputs)

    def step(part, states):
        answer = known.decode(*[keras.ops.convert_to_tensor(one) for one in part], *states)
        return answer[:count], answer[count:]

    states = ks.encode(model, known.graph.at_once(values)) if known.has_encoder else known.states_before([], ROWS)
    outputs = walk(step, known.graph.stepwise(values), states, steps, known.graph.frames)
    return largest_difference(model, known, values, steps, outputs)


def trained(model, known):
    """The model after some steps of `fit` on random numbers."""
    values = inputs_for(model, known, 12 + known.graph.look_back)
    random = np.random.default_rng(2)
    targets = [random.random(output.shape).astype(np.float32) for output in whole(model, values)]
    model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=False)  # Adam takes three times as long to trace.
    given = keras.tree.pack_sequence_as(model.input, values) if len(values) > 1 else values[0]
    model.fit(given, keras.tree.pack_sequence_as(outputs_of(model), targets), epochs=3, verbose=0)
    return model


def outputs_of(model):
    return model.outputs[0] if len(model.outputs) == 1 else model.output


def difference_in_file(name, path):
    model = model_of(name)
    if name in TRAINED:
        model = randomized(FRAMES[name]())
        model = trained(model, stepped(model))
    known = stepped(model)
    export_tflite(model, None, path, batch=ROWS)
    steps = steps_of(name, model, known.graph.frames)
    values = inputs_for(model, known, steps)
    decoder = LiteRTDecoder(path)
    assert decoder.delays == [output.delay for output in known.graph.outputs]
    states = decoder.encode(*known.graph.at_once(values)) if known.has_encoder else decoder.initial_states()
    outputs = walk(decoder.step, known.graph.stepwise(values), states, steps, known.graph.frames)
    return largest_difference(model, known, values, steps, outputs)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ONE_OF_EACH else pytest.mark.slow) for name in FRAMES]
)
def test_each_step_is_the_whole_model(name):
    assert difference_in_keras(name) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", dict.fromkeys([*ONE_OF_EACH, *list(ENCODERS)[2:3], *list(CONVOLUTIONS)[2::4]]))
def test_each_step_of_the_file_is_the_whole_model(name, tmp_path):
    assert difference_in_file(name, tmp_path / "a.tflite") <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH[:10:2])
def test_a_file_in_int8_is_near_the_model(name, tmp_path):
    report = export_tflite(model_of(name), None, tmp_path / "a.tflite", quantization="int8")
    assert report["stored_bytes"]["int8"] > 0
    assert report["relative_error"] < 0.05


def states_for(model):
    """The encoder's states for a source, or None."""
    known = stepped(model)
    if not known.has_encoder:
        return None, None
    values = inputs_for(model, known, 1)
    source = [one[:1] for one in known.graph.at_once(values)]
    return ks.encode(model, source), source


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TEXTS)[::2])
def test_a_seed_gives_the_same_text_in_keras_and_the_file(name, tmp_path):
    model = model_of(name)
    path = tmp_path / "a.tflite"
    export_tflite(model, VOCABULARY, path)
    sampler = LiteRTSampler(path)
    states, source = states_for(model)
    in_file = {} if states is None else {"states": sampler.decoder.encode(*source)}
    in_keras = {} if states is None else {"states": states}
    options = {"max_tokens": 40, "temperature": 0.9, "seed": 5}
    assert sampler.sample("to ", **in_file, **options) == ks.sample(model, VOCABULARY, "to ", **in_keras, **options)


@pytest.mark.parametrize("name", TEXTS)
def test_the_log_probabilities_of_a_text_are_those_of_the_whole_model(name):
    model = model_of(name)
    states, source = states_for(model)
    count = model.inputs[-1 if source else 0].shape[1] or 60
    text = TEXT[:count]
    ids = np.array([VOCABULARY.start_id, *VOCABULARY.encode(text)])
    scored = ks.score(model, VOCABULARY, text, states=states)
    target = model.inputs[-1 if source else 0]
    size = len(VOCABULARY)

    def predicted(tokens):
        given = np.eye(size, dtype=np.float32)[tokens][None] if len(target.shape) == 3 else tokens[None]
        # Not as a graph, in which a CategoryEncoding would not check its input.
        outputs = keras.tree.flatten(model([*source, given] if source else given, training=False))
        logits = np.asarray(next(one for one in outputs if one.shape[-1] == size))
        logits = logits[0] if logits.ndim == 3 else logits
        return np.log(logits) if "softmax" in str(model.layers[-1].get_config().get("activation")) else logits

    if len(model.outputs[0].shape) == 3:
        rows = predicted(ids[:-1])
        positions = range(len(ids) - 1)
    else:  # The whole model gives the logits after its last token alone.
        positions = [count - 1] if target.shape[1] else [0, 7, count - 1]
        rows = {position: predicted(ids[: position + 1])[0] for position in positions}
    for position in positions:
        row = np.asarray(rows[position], np.float64)
        value = row[ids[position + 1]] - np.logaddexp.reduce(row)
        assert abs(value - scored.log_probabilities[position]) <= TOLERANCE


@pytest.mark.usefixtures("all_steps_are_compared")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (index % 2)) for index, name in enumerate(REFUSED)]
)
def test_what_cannot_be_stepped_is_refused_with_the_reason(name, tmp_path):
    build, sentence = REFUSED[name]
    model = build()
    for use in (lambda: ks.step_model(model), lambda: export_tflite(model, None, tmp_path / "a.tflite")):
        with pytest.raises((ValueError, RuntimeError), match=sentence):
            use()
    assert not list(tmp_path.iterdir())
