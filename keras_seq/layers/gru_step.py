"""The equations of one step of a GRU, as pure functions.

A step computes the following from the memory `c` and the input `x`, where `*` is element-wise:

    update     Γu = σ(Wu [c, x] + bu)
    relevance  Γr = σ(Wr [c, x] + br)           also called the reset gate
    candidate  c~ = tanh(Wc [Γr * c, x] + bc)
    memory     c' = Γu * c~ + (1 - Γu) * c

The words on the left name the same quantities in all modules of this folder. `x_...` and `c_...` are the products of
the input and of the memory with the kernels of a gate or of the candidate. The simplified GRU has no Γr.

Keras computes keep = 1 - Γu in place of Γu and calls it z. Its kernels and biases have the blocks keep, relevance,
candidate, in this order. The weights here are laid out in the same way, so that they can be exchanged with
`keras.layers.GRU`.

References: Cho et al. 2014 (arXiv 1406.1078, 1409.1259), Chung et al. 2014 (arXiv 1412.3555).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

Activation = Callable[[Any], Any]


class Step(NamedTuple):
    """Keep, relevance and candidate of one step, each `(batch, units)`."""

    keep: Any
    relevance: Any
    candidate: Any


def step_with_reset_after(
    x: Any, memory: Any, kernel: Any, bias: Any, masks: Any, sigmoid: Activation, tanh: Activation
) -> Step:
    """The form that Keras and cuDNN use by default: Γr scales the product of the memory, Γr * (Wc c + bc).

    Args:
        x: the projected input, `(batch, 3 * units)`.
        memory: `(batch, units)`.
        kernel: the recurrent kernel, `(units, 3 * units)`.
        bias: the bias of the memory's product, `(3 * units,)`, or None.
        masks: a dropout mask of the memory for each block, or None.
        sigmoid: the activation of the gates.
        tanh: the activation of the candidate.
    """
    x_keep, x_relevance, x_candidate = ops.split(x, 3, axis=-1)
    c_keep, c_relevance, c_candidate = ops.split(project(memory, kernel, bias, masks), 3, axis=-1)
    keep = sigmoid(x_keep + c_keep)
    relevance = sigmoid(x_relevance + c_relevance)
    candidate = tanh(x_candidate + relevance * c_candidate)
    return Step(keep, relevance, candidate)


def step_with_reset_before(x: Any, memory: Any, kernel: Any, masks: Any, sigmoid: Activation, tanh: Activation) -> Step:
    """The form of the equations above: Γr scales the memory itself, Wc (Γr * c).

    The arguments are those of `step_with_reset_after`, without `bias`: the input's product has the only bias.
    """
    gate_kernel, candidate_kernel = ops.split(kernel, [2 * kernel.shape[0]], axis=1)
    gate_masks, candidate_mask = (None, None) if masks is None else (masks[:2], masks[2])
    x_keep, x_relevance, x_candidate = ops.split(x, 3, axis=-1)
    c_keep, c_relevance = ops.split(project(memory, gate_kernel, None, gate_masks), 2, axis=-1)
    keep = sigmoid(x_keep + c_keep)
    relevance = sigmoid(x_relevance + c_relevance)
    candidate_memory = relevance * (memory if candidate_mask is None else memory * candidate_mask)
    candidate = tanh(x_candidate + ops.matmul(candidate_memory, candidate_kernel))
    return Step(keep, relevance, candidate)


def step_without_reset(x: Any, memory: Any, kernel: Any, masks: Any, sigmoid: Activation, tanh: Activation) -> Step:
    """The simplified GRU: the whole memory enters the candidate.

    The arguments are those of `step_with_reset_before`, but `x`, `kernel` and `masks` have two blocks instead of three.
    """
    x_keep, x_candidate = ops.split(x, 2, axis=-1)
    c_keep, c_candidate = ops.split(project(memory, kernel, None, masks), 2, axis=-1)
    keep, candidate = sigmoid(x_keep + c_keep), tanh(x_candidate + c_candidate)
    return Step(keep, ops.ones_like(keep), candidate)


def project(values: Any, kernel: Any, bias: Any, masks: Any) -> Any:
    """Returns `values @ kernel + bias` for all blocks at once, or block by block where each has its own dropout mask."""
    if isinstance(masks, list):
        blocks = zip(masks, ops.split(kernel, len(masks), axis=1), strict=True)
        product = ops.concatenate([ops.matmul(values * mask, block) for mask, block in blocks], axis=-1)
    else:
        product = ops.matmul(values if masks is None else values * masks, kernel)
    return product if bias is None else product + bias
