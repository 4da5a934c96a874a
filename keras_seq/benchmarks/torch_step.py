"""PyTorch's one-token step of a GRU language model, in its fastest forms: batch size 1, one thread.

These forms take, on two cores and at 65 and 10,000 tokens: float32 124 and 900 us, int8 52-57 and 121-137. The alternatives that
were tried:

* `GRUCell` and `nn.GRU` unchanged: 166-183 and 2,830 us;
* scripted, frozen or optimized for inference: 139-178 and 1,320-2,900;
* compiled: 100-119 and 670-1,000, after some seconds, with a C++ compiler.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np


def torch_steps(weights: dict[str, np.ndarray], token: int) -> dict[str, Callable[[], np.ndarray]]:
    """Returns the step with each kind of weights: float32, and int8 if this version of PyTorch has it.

    It needs `torch`, and limits it to one thread.

    Args:
        weights: as for `keras_seq.benchmarks.onnxruntime_step.onnxruntime_steps`.
        token: the token to read, from the zero state.

    Returns:
        For each kind of weights a call that returns the logits `(1, vocabulary)`.
    """
    import torch

    torch.set_num_threads(1)
    inputs = torch.tensor([token]), torch.zeros(1, len(weights["recurrent_kernel"]))
    steps = {"float32": _traced(_torch_step(weights), inputs)}
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError:
        return steps
    steps["int8"] = _traced(_torch_int8_module(weights, quantize_dynamic), inputs)
    return steps


def _torch_step(weights: dict[str, np.ndarray]) -> Callable[..., Any]:
    """Returns the step with float32 weights: token `(1,)`, state `(1, units)` -> logits `(1, vocabulary)`, state.

    Its products read the matrices row by row, which without a compiler is 3 times as fast as `Linear` for large matrices.
    """
    import torch

    tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    units = len(weights["recurrent_kernel"])

    def step(token: Any, state: Any) -> tuple[Any, Any]:
        embedded = torch.nn.functional.embedding(token, tensors["embeddings"])
        projected = torch.addmm(tensors["bias"][0], embedded, tensors["kernel"])
        remembered = torch.addmm(tensors["bias"][1], state, tensors["recurrent_kernel"])
        gates = torch.sigmoid(projected[:, : 2 * units] + remembered[:, : 2 * units])
        update, reset = gates.chunk(2, dim=1)
        candidate = torch.tanh(torch.addcmul(projected[:, 2 * units :], reset, remembered[:, 2 * units :]))
        state = torch.lerp(candidate, state, update)
        return torch.addmm(tensors["logits_bias"], state, tensors["logits_kernel"]), state

    return step


def _torch_int8_module(weights: dict[str, np.ndarray], quantize_dynamic: Callable[..., Any]) -> Any:
    """Returns the step with int8 weights, one scale per matrix. The inputs of a product are quantized at run time."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            vocabulary, features = weights["embeddings"].shape
            units = len(weights["recurrent_kernel"])
            self.embedding = torch.nn.Embedding(vocabulary, features)
            self.cell = torch.nn.GRUCell(features, units)
            self.dense = torch.nn.Linear(units, vocabulary)

        def forward(self, token: Any, state: Any) -> tuple[Any, Any]:
            state = self.cell(self.embedding(token), state)
            return self.dense(state), state

    module = Module().eval()
    arrays = {
        "embedding.weight": weights["embeddings"],
        "cell.weight_ih": _reset_first(weights["kernel"]).T,
        "cell.weight_hh": _reset_first(weights["recurrent_kernel"]).T,
        "cell.bias_ih": _reset_first(weights["bias"])[0],
        "cell.bias_hh": _reset_first(weights["bias"])[1],
        "dense.weight": weights["logits_kernel"].T,
        "dense.bias": weights["logits_bias"],
    }
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    with warnings.catch_warnings(action="ignore"):  # Deprecated in favour of a package that has no GRU.
        quantized = quantize_dynamic(module, {torch.nn.GRUCell, torch.nn.Linear})
    return quantized.requires_grad_(False)


def _reset_first(array: np.ndarray) -> np.ndarray:
    """Reorders the gates of `(..., 3 * units)` from Keras's update, reset, candidate to PyTorch's reset, update, new."""
    update, reset, candidate = np.split(array, 3, axis=-1)
    return np.concatenate([reset, update, candidate], axis=-1)


def _traced(step: Callable[..., Any], inputs: tuple[Any, Any]) -> Callable[[], np.ndarray]:
    """Traces a PyTorch step, so that it runs in TorchScript's interpreter without Python."""
    import torch

    with warnings.catch_warnings(action="ignore"), torch.no_grad():  # TorchScript is deprecated.
        traced = torch.jit.trace(step, inputs)
        if isinstance(step, torch.nn.Module):
            traced = torch.jit.freeze(traced).forward
    return _fixed(traced, inputs)


def _fixed(step: Callable[..., Any], inputs: tuple[Any, Any]) -> Callable[[], np.ndarray]:
    """Fixes the inputs of a step. No tensor needs a gradient, so `inference_mode`, which takes time to enter, is not used."""
    return lambda: step(*inputs)[0].numpy()
