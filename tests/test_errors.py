"""Errors keep their class, message and names when they cross from one process to another."""

import pickle

import pytest

from keras_seq import errors
from keras_seq.errors import ArgumentError, ConfigError, KerasSeqError, TextError

CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, KerasSeqError)]
EXAMPLES = [
    ArgumentError("units", "a list of positive integers", [256, 0]),
    TextError("prompt", "hold only characters of the vocabulary", "'x' (U+0078)"),
    ConfigError("only one of {} and {} can be set", "epochs", "minutes"),
    ConfigError('its line 3 is {"epochs": {}}'),  # Braces that stand for no name stay.
]
OTHERS = [one("it is damaged") for one in CLASSES if not issubclass(one, ArgumentError)]


def parts_of(error):
    return type(error), str(error), error.names, error.args, error.for_command_line(["units", "prompt", "epochs"])


@pytest.mark.parametrize("error", EXAMPLES + OTHERS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error):
    assert parts_of(pickle.loads(pickle.dumps(error))) == parts_of(error)


def test_every_class_has_an_example():
    assert {type(error) for error in EXAMPLES + OTHERS} == set(CLASSES)


@pytest.mark.parametrize("error", EXAMPLES + OTHERS, ids=lambda error: type(error).__name__)
def test_errors_about_arguments_and_files_are_value_errors(error):
    is_of_a_run = isinstance(error, errors.TrainingError) or type(error) is KerasSeqError
    assert isinstance(error, ValueError) != is_of_a_run


def test_the_command_line_sees_options_and_other_arguments_as_they_are():
    error = ConfigError("only one of {} and {} can be set", "epochs", "minutes")
    assert str(error) == "only one of `epochs` and `minutes` can be set"
    assert error.for_command_line(["epochs"]) == "only one of --epochs and `minutes` can be set"
    assert str(EXAMPLES[0]) == "`units` must be a list of positive integers. Received: units=[256, 0]"
    assert EXAMPLES[0].for_command_line(["units"]) == (
        "--units must be a list of positive integers. Received: --units=256,0"
    )
    assert EXAMPLES[0].for_command_line([]) == str(EXAMPLES[0])
    assert EXAMPLES[1].for_command_line(["prompt"]) == (
        "--prompt must hold only characters of the vocabulary. Received: 'x' (U+0078)"
    )
    assert str(EXAMPLES[3]) == 'its line 3 is {"epochs": {}}'
