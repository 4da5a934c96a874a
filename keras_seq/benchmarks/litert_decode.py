"""`keras-seq benchmark decode`: the time of one token with our .tflite, with other runtimes, and at the memory's speed.

The floor is the time in which one thread reads the bytes of the weights that a step multiplies. It is measured in the same
turns with the fastest reader that Python has: a search for a byte that does not occur.
"""

import functools
import importlib.util
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter

from keras_seq import require
from keras_seq.benchmarks.onnxruntime_step import onnxruntime_steps
from keras_seq.benchmarks.timing import SIZES, UNITS, bare_call, benchmark_model, take_turns
from keras_seq.benchmarks.torch_step import torch_steps
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.generation.threefry import uniform
from keras_seq.models.step_model import step_model
from keras_seq_export.signatures import (
    DECODE,
    INTEGER,
    QUANTIZATIONS,
    SAMPLE,
    SAMPLING_INPUTS,
    TOKEN,
    UNIFORM,
    state_name,
)
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.export import export_tflite
from keras_seq_export.tflite.runtime import LiteRTSampler

OURS, FLOOR, ONNX_RUNTIME, PYTORCH = "keras_seq .tflite", "floor", "ONNX Runtime", "PyTorch"
_PREDICT_CALLS = 20  # calls of Model.predict, each of which takes tens of milliseconds
_TOKEN = 5  # the token that is read
_TEXT_TOKENS = 400  # tokens of a text


class Contender(NamedTuple):
    """One way to compute a token.

    Attributes:
        runtime: the library.
        weights: the type of the weights.
        variant: what is timed besides the step of the model; empty for the step alone.
    """

    runtime: str
    weights: str = "float32"
    variant: str = ""

    def __str__(self) -> str:
        """Returns all three in one line."""
        return ", ".join(filter(None, self))


OUR_INT8 = Contender(OURS, "int8")
# In Python, LiteRT's CompiledModel has no buffers of int16.
OUR_INTEGERS = Contender(OURS, INTEGER, "LiteRT's Interpreter")
Calls = dict[Contender, Callable[[], Any]]


class DecodeTime(NamedTuple):
    """The time of one contender.

    Attributes:
        tokens: size of the vocabulary.
        what: name of the contender.
        microseconds: median time of a token.
        of_int8: this time divided by that of our int8 model.
        floor: for a step of our .tflite, this time divided by its floor; else None.
    """

    tokens: int
    what: str
    microseconds: float
    of_int8: float
    floor: float | None


def benchmark_decode(rounds: int = 15) -> Iterator[DecodeTime]:
    """Times one token of a GRU of 512 units after embeddings of 256, with 65 and 10,000 tokens, on one thread.

    Args:
        rounds: number of turns of each contender.

    Yields:
        A row for each vocabulary size and contender.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
    """
    require.positive_integer("rounds", rounds)
    for size, spread in SIZES.items():
        model, vocabulary = benchmark_model(size, spread)
        calls: Calls = {}
        with tempfile.TemporaryDirectory() as directory:
            for quantization, weights in QUANTIZATIONS.items():
                path = Path(directory, f"{quantization}.tflite")
                export_tflite(model, vocabulary, path, quantization=quantization, max_loss=math.inf)
                if quantization == INTEGER:
                    calls[OUR_INTEGERS] = _interpreter_call(path)
                else:
                    calls[Contender(OURS, weights)] = bare_call(CompiledModel.from_file(str(path)), DECODE, {})
                    calls[Contender(FLOOR, weights)] = _reader(_bytes_multiplied(path))
            calls |= _sampling_calls(Path(directory, f"{OUR_INT8.weights}.tflite"))
            calls |= _peer_calls(model)
            times = take_turns(calls, rounds)
        predict = {Contender("Model.predict"): _predict_call(model)}
        times |= take_turns(predict, rounds=1, calls_per_turn=_PREDICT_CALLS)
        for contender, microseconds in times.items():
            if contender.runtime == FLOOR:
                continue
            is_our_step = contender.runtime == OURS and not contender.variant
            floor = times[Contender(FLOOR, contender.weights)] if is_our_step else None
            yield DecodeTime(
                tokens=size,
                what=str(contender),
                microseconds=microseconds,
                of_int8=microseconds / times[OUR_INT8],
                floor=None if floor is None else microseconds / floor,
            )


def table(rows: Iterable[DecodeTime]) -> Iterator[str]:
    """Yields the lines of a table of the rows."""
    yield f"{'tokens':>7}  {'':<50}{'us':>10}{'of int8':>11}{'of floor':>10}"
    for row in rows:
        floor = "" if row.floor is None else f"{row.floor:>9,.2f}x"
        yield f"{row.tokens:>7,}  {row.what:<50}{row.microseconds:>10,.1f}{row.of_int8:>10,.2f}x{floor}"


def _bytes_multiplied(path: Path) -> int:
    """Returns the bytes of weights and scales that the products of a step read. float16 is read as float32."""
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


def _reader(size: int) -> Callable[[], Any]:
    data = b"a" * size
    return lambda: data.find(b"b")


def _interpreter_call(path: Path) -> Callable[[], Any]:
    """Returns the first signature of a file, `decode`, with its inputs in place: zeros."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    call: Callable[[], Any] = interpreter.invoke
    return call


def _sampling_calls(path: Path) -> Calls:
    """Returns a token of `LiteRTSampler.generate`, all its Python included, and the same signature calls without it."""
    sampler = LiteRTSampler(path)
    settings = SamplingSettings(top_k=40, top_p=0.9)
    options = {name: getattr(settings, name) for name in SAMPLING_INPUTS}

    def pieces() -> Iterator[str]:
        for seed in itertools.count():
            yield from sampler.generate(max_tokens=_TEXT_TOKENS, seed=seed, **options)

    bias = logit_bias(sampler.vocabulary, settings)
    fixed = {name: np.array([options[name]], dtype) for name, dtype in SAMPLING_INPUTS.items()}
    token, states, inputs = sampler.vocabulary.start_id, sampler.initial_states(), []
    for number in uniform(0, np.arange(_TEXT_TOKENS)):
        read = {TOKEN: np.array([token], np.int32), UNIFORM: np.array([number], np.float32), state_name(0): states[0]}
        inputs.append({**fixed, **read})
        token, states = sampler.draw(token, states, number, settings, bias, [])
    again = itertools.cycle(inputs)
    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner(SAMPLE)
    return {
        OUR_INT8._replace(variant="LiteRT's runner of sample"): lambda: runner(**next(again)),
        OUR_INT8._replace(variant="LiteRTSampler.generate"): functools.partial(next, pieces()),
    }


def _peer_calls(model: keras.Model) -> Calls:
    """Returns the step of the same model in TensorFlow and in the other runtimes that are installed."""
    names = ("embeddings", "kernel", "recurrent_kernel", "bias", "logits_kernel", "logits_bias")
    weights = dict(zip(names, model.get_weights(), strict=True))
    decoder = step_model(model)
    token, state = tf.constant([_TOKEN]), tf.zeros((1, UNITS))
    decode = tf.function(lambda token, state: decoder([token, state], training=False))
    calls: Calls = {Contender("tf.function"): lambda: decode(token, state)}
    if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        steps = onnxruntime_steps(weights, _TOKEN)
        calls |= {Contender(ONNX_RUNTIME, kind): step for kind, step in steps.items()}
    if importlib.util.find_spec("torch"):
        calls |= {Contender(PYTORCH, kind): step for kind, step in torch_steps(weights, _TOKEN).items()}
    return calls


def _predict_call(model: keras.Model) -> Callable[[], Any]:
    inputs = [np.array([_TOKEN], np.int32), np.zeros((1, UNITS), np.float32)]
    decoder = step_model(model)
    return lambda: decoder.predict(inputs, verbose=0)
