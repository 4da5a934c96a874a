"""What the benchmarks of the .tflite share: the model, the calls, and turns, so that what else the machine does hits all alike."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.models.language_model import language_model

# Number of tokens: the spread of their logits, which gives a perplexity of about 20 and about 400.
SIZES = {65: 2.0, 10_000: 3.0}
UNITS, EMBEDDING = 512, 256


def take_turns(calls: dict[str, Callable[[], Any]], rounds: int, calls_a_turn: int = 200) -> dict[str, float]:
    """Returns the median microseconds of each call.

    Args:
        calls: by name.
        rounds: how often each has its turn.
        calls_a_turn: how often it is called then.

    Raises:
        ValueError: `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"`rounds` must be positive. Received: rounds={rounds!r}")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # The others have emptied the caches.
            start = time.perf_counter()
            for _ in range(calls_a_turn):
                call()
            times[name].append((time.perf_counter() - start) / calls_a_turn * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def untrained_model(size: int, spread: float) -> tuple[keras.Model, Vocabulary]:
    """Returns an untrained model whose logits are as uneven as a trained one's."""
    words = " ".join(f"w{number}" for number in range(size))
    vocabulary = Vocabulary.from_text(words, level="word", max_size=size)
    model = language_model(len(vocabulary), units=[UNITS], embedding_dim=EMBEDDING)
    last = model.layers[-1]
    last.bias.assign(np.random.default_rng(0).normal(scale=spread, size=len(vocabulary)))
    return model, vocabulary


def bare_call(runtime: CompiledModel, signature: str, values: dict[str, np.ndarray]) -> Callable[[], Any]:
    """Returns a call of a signature with these inputs; the others, token and states, are zeros."""
    index = runtime.get_signature_index(signature)
    inputs, outputs = runtime.create_input_buffers(index), runtime.create_output_buffers(index)
    details = runtime.get_input_tensor_details(signature)
    for name, buffer in zip(runtime.get_signature_by_index(index)["inputs"], inputs, strict=True):
        zeros = np.zeros(details[name]["shape"], details[name]["dtype"])
        buffer.write(values.get(name, zeros))
    return lambda: runtime.run_by_index(index, inputs, outputs)
