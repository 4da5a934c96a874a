"""`keras-seq benchmark decode`: one token in our .tflite beside other runtimes, and beside what memory allows.

The floor is the time in which one thread reads the bytes of the weights that a step multiplies, measured in the same turns
with the fastest reader that Python has: a search for a byte that is not there.
"""

import functools
import importlib.util
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter

from keras_seq.benchmarks.onnxruntime_step import onnxruntime_steps
from keras_seq.benchmarks.timing import SIZES, UNITS, bare_call, take_turns, untrained_model
from keras_seq.benchmarks.torch_step import torch_steps
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.generation.threefry import uniform
from keras_seq.models.step_model import step_model
from keras_seq_export.signatures import DECODE, QUANTIZATIONS, SAMPLE, SAMPLING_INPUTS, TOKEN, UNIFORM, state_name
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.export import export_tflite
from keras_seq_export.tflite.runtime import LiteRTSampler

OURS, FLOOR = "keras_seq .tflite", "floor"
SLOW = 20  # calls of Model.predict a turn; it takes tens of milliseconds
_TOKEN = 5
_WRITTEN = 400  # tokens of a text


def benchmark_decode(rounds: int = 15) -> Iterator[dict[str, Any]]:
    """Times one token of a GRU of 512 units after embeddings of 256, with 65 and 10,000 tokens, on one thread.

    Args:
        rounds: how often each has its turn.

    Yields:
        Rows with `tokens` (of the vocabulary), `what`, `microseconds` (median), `of_int8` (times our int8), `floor` (ours: times its
        floor; else None).

    Raises:
        ValueError: `rounds` is not positive.
    """
    take_turns({}, rounds)  # Refuses rounds that are none before anything is exported.
    for size, spread in SIZES.items():
        model, vocabulary = untrained_model(size, spread)
        calls: dict[str, Callable[[], Any]] = {}
        with tempfile.TemporaryDirectory() as directory:
            paths = {kind: Path(directory, f"{kind}.tflite") for kind in QUANTIZATIONS}
            for kind, path in paths.items():
                export_tflite(model, vocabulary, path, quantization=kind, max_loss=math.inf)
                name = "float32" if kind == "none" else kind
                calls[f"{OURS}, {name}"] = bare_call(CompiledModel.from_file(str(path)), DECODE, {})
                calls[f"{FLOOR}, {name}"] = _reading(_bytes_multiplied(path))
            calls |= _sampling(paths["int8"])
            calls |= _peers(model)
            times = take_turns(calls, rounds)
        times |= take_turns({"Model.predict, float32": _predicting(model)}, rounds=1, calls_a_turn=SLOW)
        for what, microseconds in times.items():
            if not what.startswith(FLOOR):
                floor = times.get(what.replace(OURS, FLOOR)) if OURS in what else None
                yield {
                    "tokens": size,
                    "what": what,
                    "microseconds": microseconds,
                    "of_int8": microseconds / times[f"{OURS}, int8"],
                    "floor": None if floor is None else microseconds / floor,
                }


def table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Gives the rows of `benchmark_decode` as the lines of a table."""
    yield f"{'tokens':>7}  {'':<50}{'us':>10}{'of int8':>11}{'of floor':>10}"
    for row in rows:
        floor = "" if row["floor"] is None else f"{row['floor']:>9,.2f}x"
        yield f"{row['tokens']:>7,}  {row['what']:<50}{row['microseconds']:>10,.1f}{row['of_int8']:>10,.2f}x{floor}"


def _bytes_multiplied(path: Path) -> int:
    """Returns the bytes that a step's products read, weights and their scales; float16 is made float32 before."""
    model = flatbuffer.parse(read_bundle(path).model)
    index = next(one.subgraphIndex for one in model.signatureDefs if one.signatureKey.decode() == DECODE)
    graph = model.subgraphs[index]
    total = 0
    for operator in graph.operators:
        if flatbuffer.operator_name(model, operator) == "FULLY_CONNECTED":
            weights = graph.tensors[operator.inputs[1]]
            data = model.buffers[weights.buffer].data
            total += 4 * math.prod(weights.shape) if data is None else len(data)
            if weights.type == schema.TensorType.INT4:
                total += len(model.buffers[graph.tensors[weights.quantization.details.scales].buffer].data)
    return total


def _reading(size: int) -> Callable[[], Any]:
    data = b"a" * size
    return lambda: data.find(b"b")


def _sampling(path: Path) -> dict[str, Callable[[], Any]]:
    """Returns a token of `LiteRTSampler.generate`, with all Python around it, and the same calls of LiteRT's runner alone."""
    sampler = LiteRTSampler(path)
    settings = SamplingSettings(top_k=40, top_p=0.9)
    drawing = {name: getattr(settings, name) for name in SAMPLING_INPUTS}

    def pieces() -> Iterator[str]:
        for seed in itertools.count():
            yield from sampler.generate(max_tokens=_WRITTEN, seed=seed, **drawing)

    added = logit_bias(sampler.vocabulary, settings)
    fixed = {name: np.array([drawing[name]], dtype) for name, dtype in SAMPLING_INPUTS.items()}
    token, states, inputs = sampler.vocabulary.start_id, sampler.initial_states(), []
    for number in uniform(0, np.arange(_WRITTEN)):
        read = {TOKEN: np.array([token], np.int32), UNIFORM: np.array([number], np.float32), state_name(0): states[0]}
        inputs.append({**fixed, **read})
        token, states = sampler.draw(token, states, number, settings, added, [])
    again = itertools.cycle(inputs)
    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner(SAMPLE)
    return {
        f"{OURS}, int8, LiteRT's runner of sample": lambda: runner(**next(again)),
        f"{OURS}, int8, LiteRTSampler.generate": functools.partial(next, pieces()),
    }


def _peers(model: keras.Model) -> dict[str, Callable[[], Any]]:
    """Returns the step of the same model in the other runtimes that are there."""
    names = ("embeddings", "kernel", "recurrent_kernel", "bias", "logits_kernel", "logits_bias")
    weights = dict(zip(names, model.get_weights(), strict=True))
    decoder = step_model(model)
    token, state = tf.constant([_TOKEN]), tf.zeros((1, UNITS))
    decode = tf.function(lambda token, state: decoder([token, state], training=False))
    calls: dict[str, Callable[[], Any]] = {"tf.function, float32": lambda: decode(token, state)}
    if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        calls |= onnxruntime_steps(weights, _TOKEN)
    if importlib.util.find_spec("torch"):
        calls |= torch_steps(weights, _TOKEN)
    return calls


def _predicting(model: keras.Model) -> Callable[[], Any]:
    inputs = [np.array([_TOKEN], np.int32), np.zeros((1, UNITS), np.float32)]
    decoder = step_model(model)
    return lambda: decoder.predict(inputs, verbose=0)
