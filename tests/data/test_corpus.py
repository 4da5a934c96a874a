import dataclasses

import pytest

from keras_seq.data.corpus import Corpus


def test_a_corpus_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Corpus("a", "b", "c", "name").train = "d"
