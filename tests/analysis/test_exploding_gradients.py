"""Explosion without clipping, and the cure."""

import math

from keras_seq.analysis import exploding_gradients as explosion


def test_what_is_not_clipped_explodes_and_what_is_goes_on():
    runs = {(run.activation, bool(run.clipping)): run for run in explosion.explosions()}
    assert max(runs["relu", False].norms, key=lambda norm: norm if math.isfinite(norm) else 0) > 1000
    assert "nothing clips them" in runs["relu", False].end
    assert "the gradient's norm became" in str(runs["relu", False])
    assert runs["tanh", False].nats > 3 * runs["tanh", True].nats
    for activation in ("tanh", "relu"):
        clipped = runs[activation, True]
        assert clipped.end == ""
        assert clipped.nats < math.log(64)  # better than a guess among the grammar's words
