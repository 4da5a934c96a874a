"""The documentation of the options, and the strings with attributes."""

import copy
import dataclasses
import inspect
import pickle
import re

from markov_chain import VOCABULARY, MarkovChain

from keras_seq.generation.generation import Generation, sample
from keras_seq.generation.sampling import SamplingSettings
from keras_seq.generation.text import Options


def test_the_documented_defaults_are_the_defaults():
    text = inspect.cleandoc(Options.__doc__)  # Python 3.13 removes the indentation by itself.
    documented = dict(re.findall(r"(?s)\n    (\w+): (?:(?!\n    \w).)*?Default:\s+([^\s]+)\.", text))
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(Generation).parameters.items()
        if name in Options.__annotations__
    }
    defaults |= {field.name: getattr(SamplingSettings(), field.name) for field in dataclasses.fields(SamplingSettings)}
    assert list(defaults) == list(Options.__annotations__)
    assert documented == {name: repr(default) for name, default in defaults.items()}


def test_a_copy_of_a_text_or_piece_keeps_its_attributes():
    text = sample(MarkovChain(), VOCABULARY, "a", seed=2, max_tokens=5, logprobs=True)
    piece = next(Generation(MarkovChain(), VOCABULARY, "a", seed=2, logprobs=True))
    for one in (text, piece):
        for copied in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
            assert (copied, type(copied), vars(copied)) == (one, type(one), vars(one))
