"""A model whose probabilities are known: a or b after `<s>`; b after a; a, b or `<eos>` after b."""

import math

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.states import checked_arrays

VOCABULARY = Vocabulary.from_text("ab")
A, B = VOCABULARY.encode("ab").tolist()
EOS = VOCABULARY.eos_id
PROBABILITIES = {VOCABULARY.start_id: {A: 0.75, B: 0.25}, A: {B: 1.0}, B: {A: 0.5, B: 0.25, EOS: 0.25}}


class MarkovChain(Step):
    """Its state counts the steps."""

    vocabulary_size = len(VOCABULARY)

    def __init__(self, probabilities=PROBABILITIES):
        self.probabilities = probabilities

    def initial_states(self):
        return [np.zeros((1, 1), np.float32)]

    def states_of(self, arrays):
        return checked_arrays(arrays, [(1, 1)])

    def arrays_of(self, states):
        return [state.copy() for state in states]

    def __call__(self, token, states):
        logits = np.full(len(VOCABULARY), -1e9, np.float32)
        for following, probability in self.probabilities[token].items():
            logits[following] = math.log(probability)
        return logits, [states[0] + 1]
