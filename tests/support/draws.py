"""What the tests of both draws, on the host and in a graph, use."""

import math

import numpy as np


def forbidding(size, *forbidden):
    """The bias `(size,)` that forbids some ids."""
    bias = np.zeros(size, np.float32)
    bias[list(forbidden)] = -np.inf
    return bias


def probabilities(logits):
    """The softmax in plain Python."""
    weights = [math.exp(value - max(logits)) if value > -math.inf else 0.0 for value in map(float, logits)]
    return [weight / sum(weights) for weight in weights]
