"""`SequenceReader`: a long sequence in parts is the whole sequence."""

import keras
import numpy as np
import pytest
from brought_models import OVER_FRAMES, frames_for, randomized
from keras import layers

import keras_seq as ks
from keras_seq.models.sequence_reader import SequenceReader
from keras_seq.models.step_model import stepped

MODELS = {
    # A part begins with masked steps, at which the output is that of the part before.
    "masks": OVER_FRAMES["Masking and stacked cells"],
    "an output that is no state": OVER_FRAMES["Masking and a cell whose output is no state"],
}


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_the_whole(name):
    model = randomized(MODELS[name]())
    frames = frames_for(model)
    reader = SequenceReader(model, stepped(model))
    states, outputs = reader.initial_states(2), []
    for part in np.split(frames, [4, 5, 9, 30], axis=1):
        output, states = reader(part, states)
        outputs.append(output)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), model(frames), rtol=0, atol=1e-6)


def test_a_model_of_a_fixed_length_and_batch_reads_parts_of_this_length():
    frames = keras.Input(batch_shape=(3, 8, 5))
    memory = ks.GRU(4, return_sequences=True, stateful=True)
    model = keras.Model(frames, layers.Dense(2)(memory(frames)))
    values = np.random.default_rng(0).normal(size=(3, 20, 5)).astype(np.float32)
    parts = [values[:, :8], values[:, 8:16], np.pad(values[:, 16:], ((0, 0), (0, 4), (0, 0)))]
    expected = np.concatenate([np.array(model(part)) for part in parts], axis=1)[:, :20]
    carried = memory.states[0].numpy()
    reader = SequenceReader(model, stepped(model))
    assert reader.steps == 8
    states, outputs = reader.initial_states(3), []
    for start in range(0, 20, 8):
        output, states = reader(values[:, start : start + 8], states)
        outputs.append(output)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(memory.states[0], carried)  # the model's own states are as they were
