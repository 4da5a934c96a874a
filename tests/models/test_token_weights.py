import numpy as np
import pytest

from keras_seq.models.token_weights import token_weights

MASK = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])


# As many rows as tokens, where NumPy would take the weights of rows for those of tokens.
@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (3, 3, 1)], ids=str)
def test_weights_of_rows_and_of_tokens_reach_each_token(shape):
    weights = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    expected = np.empty((3, 3))
    for row in range(3):
        for token in range(3):
            weight = weights.reshape(3, -1)[row]
            expected[row, token] = (weight[token] if len(weight) > 1 else weight[0]) * MASK[row, token]
    np.testing.assert_array_equal(token_weights((3, 3), weights, None, MASK), expected)
