import contextlib

import pytest

from keras_seq.errors import ConfigError
from keras_seq.training.config import TrainConfig
from keras_seq.training.run_checks import require_trainable
from keras_seq.training.train import untrained_model


@pytest.mark.parametrize(
    ("ngrams", "message"),
    [
        ({}, "the model of `units` and `embedding_dim` has .* weights, whose training needs at least"),
        ({"ngrams": 3}, "the model of `units` and `embedding_dim` and `ngram_rows` has .* weights"),
    ],
    ids=["no n-grams", "n-grams"],
)
@pytest.mark.parametrize(("bytes_per_weight", "is_refused"), [(9, False), (7, True)])
def test_only_a_model_that_cannot_fit_the_memory_is_refused(bytes_per_weight, is_refused, ngrams, message, monkeypatch):
    config = TrainConfig(corpus="memory", units=(4,), embedding_dim=3, **ngrams)
    weights = untrained_model(10, config).count_params()
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": bytes_per_weight, "SC_PHYS_PAGES": weights}[name])
    with pytest.raises(ConfigError, match=message) if is_refused else contextlib.nullcontext():
        require_trainable(10, config, strategy=None)
