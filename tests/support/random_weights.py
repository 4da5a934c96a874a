"""Models with random weights, larger than a new model's, so that logits differ from token to token and biases count."""

import numpy as np


def randomized(model, scale=0.5, seed=2):
    """Returns the model with normally distributed weights."""
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(scale=scale, size=weight.shape) for weight in model.get_weights()])
    return model
