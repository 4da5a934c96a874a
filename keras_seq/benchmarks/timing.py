"""What the benchmarks of exported models share: the model, the calls, and the turns in which the calls are timed."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.models.language_model import language_model

# Standard deviation of the logits by vocabulary size. It gives a perplexity of about 20 and of about 400.
SIZES = {65: 2.0, 10_000: 3.0}
UNITS, EMBEDDING_DIM = 512, 256

Name = TypeVar("Name", bound=Hashable)


def take_turns(calls: Mapping[Name, Callable[[], Any]], rounds: int, calls_per_turn: int = 200) -> dict[Name, float]:
    """Returns the median duration of each call, in microseconds.

    The calls take turns, so that a disturbance of the machine affects all of them alike.

    Args:
        calls: the calls to time.
        rounds: number of turns of each call.
        calls_per_turn: how often it is called in a turn.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
    """
    require.positive_integer("rounds", rounds)
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # Fills the caches again, after the turns of the others.
            start = time.perf_counter()
            for _ in range(calls_per_turn):
                call()
            times[name].append((time.perf_counter() - start) / calls_per_turn * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def benchmark_model(vocabulary_size: int, spread: float) -> tuple[keras.Model, Vocabulary]:
    """Returns an untrained model whose probabilities are as uneven as those of a trained one.

    Args:
        vocabulary_size: number of tokens.
        spread: standard deviation of the logits.
    """
    words = " ".join(f"w{number}" for number in range(vocabulary_size))
    vocabulary = Vocabulary.from_text(words, level="word", max_size=vocabulary_size)
    model = language_model(len(vocabulary), units=[UNITS], embedding_dim=EMBEDDING_DIM)
    logits = model.layers[-1]
    logits.bias.assign(np.random.default_rng(0).normal(scale=spread, size=len(vocabulary)))
    return model, vocabulary


def bare_call(runtime: CompiledModel, signature: str, values: Mapping[str, np.ndarray]) -> Callable[[], Any]:
    """Returns a call of a signature with its buffers in place, as a C program has it.

    Args:
        runtime: the compiled model.
        signature: name of the signature.
        values: values of inputs; all other inputs, such as the token and the states, are zeros.
    """
    index = runtime.get_signature_index(signature)
    inputs, outputs = runtime.create_input_buffers(index), runtime.create_output_buffers(index)
    details = runtime.get_input_tensor_details(signature)
    for name, buffer in zip(runtime.get_signature_by_index(index)["inputs"], inputs, strict=True):
        zeros = np.zeros(details[name]["shape"], details[name]["dtype"])
        buffer.write(values.get(name, zeros))
    return lambda: runtime.run_by_index(index, inputs, outputs)
