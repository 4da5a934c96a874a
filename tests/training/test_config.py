"""`TrainConfig`: validated where it is made, the same after JSON and TOML."""

import inspect
import json
import math
import os

import pytest

import keras_seq as ks
from keras_seq.errors import ArgumentError, ConfigError
from keras_seq.training.config import Clipping, TrainConfig, read_config


@pytest.mark.parametrize("kind", ["clipnorm", "global_clipnorm", "clipvalue"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_threshold_that_is_not_positive_is_refused(kind, value):
    with pytest.raises(ValueError, match=f"`{kind}` must be a positive, finite number. Received: {kind}="):
        Clipping(kind, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rate", value) for value in (0.0, -1.0, math.nan, math.inf)),
        ("weight_decay", -1.0),
        ("ema_momentum", 1.0),
        ("label_smoothing", 1.0),
        ("warmup", 1.0),
        ("dropout", 1.0),
        ("units", []),
        ("units", [0]),
        ("units", 8),
        ("cell", "rnn"),
        ("level", "byte"),
        ("coverage", 0.0),
        ("max_size", 0),
        ("batch_size", 0),
        ("length", 1.5),
        ("epochs", 0),
        ("epochs", "5"),
        ("minutes", -1.0),
        ("sampled_softmax", -1),
        ("ngrams", 1),
        ("ngram_rows", 0),
        ("by_line", 1),
        ("seed", 0.5),
        ("on_divergence", "ignore"),
        ("clipping", {"clipnorm": 1.0}),
        ("corpus", ""),
        ("corpus", []),
        ("corpus", 5),
        ("corpus", {"a": 1}),
        ("corpus", [1]),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(name, value):
    with pytest.raises(ArgumentError, match=f"`{name}` must be") as error:
        TrainConfig(**{name: value})
    assert error.value.for_command_line(options=[name]).startswith(f"--{name} must be")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 1, "minutes": 1.0}, "only one of `epochs` and `minutes` can be set"),
        ({"sampled_softmax": 64}, "`sampled_softmax` needs `tie_embeddings`"),
        (
            {"sampled_softmax": 64, "tie_embeddings": True, "label_smoothing": 0.1},
            "only one of `sampled_softmax` and `label_smoothing` can be set",
        ),
        ({"weight_dropout": 0.1, "cell": "lstm"}, "`weight_dropout` needs `cell` to be gru"),
        ({"ngram_decay": 0.5}, "`ngram_decay` needs `ngrams`"),
        (
            {"ngrams": 4, "ngram_decay": 250.0, "learning_rate": 4e-3},
            "`ngram_decay` must be below 250: a step removes this fraction times the learning rate. Received: ngram_decay=250",
        ),
        ({"weight_decay": 1000.0}, "`weight_decay` must be below 200: "),
        (
            {"ngrams": 4, "ngram_decay": 0.5, "weight_decay": 0.1},
            "only one of `ngram_decay` and `weight_decay` can be set",
        ),
        ({"epoch": 1}, "no key 'epoch'; did you mean epochs"),
        ({"zzz": 1}, "no key 'zzz'; the keys are corpus, level"),
        ({"clipping": {"kind": "clipnorm"}}, "must be an object with the keys kind and threshold"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values, message):
    with pytest.raises((ArgumentError, ConfigError), match=message):
        TrainConfig.from_dict(values)


def test_a_run_without_a_length_takes_three_minutes():
    assert (TrainConfig().epochs, TrainConfig().minutes) == (None, 3.0)
    assert (TrainConfig(epochs=2).epochs, TrainConfig(epochs=2).minutes) == (2, None)


def test_json_and_toml_give_the_configuration_back(tmp_path):
    config = TrainConfig(corpus=("a.txt", "b.txt"), units=(4, 3), epochs=2, clipping=Clipping("clipvalue", 0.1))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert TrainConfig.from_dict(read_config(tmp_path / "config.json")) == config
    (tmp_path / "config.toml").write_text(
        'corpus = ["a.txt", "b.txt"]\nunits = [4, 3]\nepochs = 2\n[clipping]\nkind = "clipvalue"\nthreshold = 0.1\n'
    )
    assert TrainConfig.from_dict(read_config(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.toml", r"at most 32,768 bytes; use JSON, which may have 16 MiB, or name a folder or a pattern"),
        ("config.json", r"at most 16,777,216 bytes$"),
    ],
)
def test_a_configuration_that_is_too_large_is_refused(tmp_path, name, words):
    (tmp_path / name).write_bytes(b" " * (2**24 + 1))
    with pytest.raises(ConfigError, match=words):
        read_config(tmp_path / name)


@pytest.mark.parametrize("name", ["config.toml", "config.json"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="It is a pipe or a device"):
        read_config(tmp_path / name)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        TrainConfig().seed = 1


def test_the_sizes_of_a_model_are_those_of_language_model():
    parameters = inspect.signature(ks.language_model).parameters
    for name in ("cell", "units", "embedding_dim"):
        assert parameters[name].default == getattr(TrainConfig(), name)
