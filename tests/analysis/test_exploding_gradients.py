"""Gradients explode without clipping and do not explode with it."""

import math

import pytest

from keras_seq.analysis.exploding_gradients import explosions


@pytest.mark.slow
def test_only_runs_without_clipping_explode():
    runs = {(run.activation, bool(run.clipping)): run for run in explosions()}
    assert max(runs["relu", False].norms, key=lambda norm: norm if math.isfinite(norm) else 0) > 1000
    assert "the gradients exploded and are not clipped" in runs["relu", False].error
    assert "the gradient's norm became" in str(runs["relu", False])
    # How far the loss jumps depends on how a CPU rounds: from 1.7 nats to 2.9 on one, to more than 5 on others.
    assert runs["tanh", False].nats_per_token > runs["tanh", True].nats_per_token + 0.5
    for activation in ("tanh", "relu"):
        clipped = runs[activation, True]
        assert clipped.error == ""
        assert clipped.nats_per_token < math.log(64)  # better than a guess among the grammar's words
