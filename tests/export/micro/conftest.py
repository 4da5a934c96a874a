"""The C decoder, compiled once for the whole session."""

import pytest
from devices import need_program
from micro_session import Session, compile_decoder

from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.micro.header import header_of


@pytest.fixture(scope="session")
def objects(made_once):
    """A folder with the decoder's object files, compiled with the sanitizers."""
    need_program("cc", "gcc")
    return made_once("micro_objects", compile_decoder)


@pytest.fixture
def session(objects, tmp_path):
    """`session(memory, vocabulary)` compiles a program with a model; `header` may be changed by a function."""

    def make(memory, vocabulary=None, sampling=None, change=lambda header: header):
        header = header_of(memory, vocabulary, sampling or SamplingSettings(), "model")
        return Session(tmp_path, objects, change(header.text), "model")

    return make
