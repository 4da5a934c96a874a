"""Whether the signatures of a .tflite are those that its configuration describes. Imports neither TensorFlow nor Keras.

The runtime itself refuses few files: with another one it would fail at some later step, or write nonsense.
"""

from collections.abc import Mapping
from typing import Any

from keras_seq.errors import shortened
from keras_seq_export.learning_rule import CANDIDATES
from keras_seq_export.signatures import (
    COUNT,
    DECODE,
    ENCODE,
    GATES,
    GET_WEIGHTS,
    LEARN,
    LEARN_STEPS,
    LEARNING_SIGNATURES,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    LOG_SHARES,
    LOGITS,
    MODEL_LOG_PROBABILITIES,
    NEXT_TOKEN,
    NEXT_TOKENS,
    PLURALS,
    PREFILL,
    RATE,
    RESET,
    RESET_WEIGHTS,
    SAMPLE,
    SAMPLING_INPUTS,
    SET_WEIGHTS,
    START,
    TOKEN,
    TOKENS,
    UNIFORM,
    UNIFORMS,
    WEIGHTS,
    WRITE,
    WRITE_STEPS,
    is_integer,
    is_state,
    state_name,
    update_gate_name,
)
from keras_seq_export.tflite.bundle_config import CONFIG
from keras_seq_export.tflite.signature import Signature, Tensor

_Tensors = Mapping[str, Tensor]
_WRITTEN = {TOKENS: "int32", LOG_PROBABILITIES: "float32"}


def require_signatures(signatures: Mapping[str, Signature], config: Mapping[str, Any], is_of_text: bool) -> None:
    """Requires all that the runtime uses of a file: names, dtypes and shapes.

    Args:
        signatures: the signatures by name.
        config: the configuration inside the file.
        is_of_text: whether the file has a vocabulary.

    Raises:
        ValueError: a signature, an input or an output is missing, or has another dtype or shape.
    """
    _require_names(signatures, config, is_of_text)
    decode, batch = signatures[DECODE], config["batch"]
    states = {name: tensor for name, tensor in decode.inputs.items() if is_state(name)}
    inputs, outputs = _without_states(decode.inputs), _without_states(decode.outputs)
    _require_step(config, is_of_text, inputs, outputs)
    _require_states(config, states)
    _require(DECODE, "outputs", decode.outputs, outputs | states)
    if PREFILL in signatures:
        _require_prefill(signatures[PREFILL], inputs, outputs, states, batch)
    if SAMPLE in signatures:
        drawn = {TOKEN: "int32", UNIFORM: "float32", **SAMPLING_INPUTS}
        _require(SAMPLE, "inputs", signatures[SAMPLE].inputs, _vectors(drawn, batch) | states)
        drawn = {NEXT_TOKEN: "int32", LOG_PROBABILITY: "float32"}
        _require(SAMPLE, "outputs", signatures[SAMPLE].outputs, _vectors(drawn, batch) | states)
    if WRITE in signatures:
        _require_write(signatures[WRITE], states, batch)
    if GATES in signatures:
        _require_gates(signatures[GATES], states, batch)
    for name in {RESET, START} & set(signatures):
        _require(name, "inputs", signatures[name].inputs, {})
    for name in {START, ENCODE} & set(signatures):
        _require(name, "outputs", signatures[name].outputs, states)
    if LEARN in signatures:
        _require_learning(signatures, states)
    if config.get("at_once"):
        _require_encoder(signatures[ENCODE], config["at_once"], batch)


def _require_names(signatures: Mapping[str, Signature], config: Mapping[str, Any], is_of_text: bool) -> None:
    """Requires the signatures of the configuration. Only a file whose states do not begin at zero has `start`."""
    expected, optional = {DECODE}, set[str]()
    if is_integer(config):
        if (config["state"], config["batch"]) != ("explicit", 1) or config.get("at_once"):
            raise ValueError(
                f"its {CONFIG} is not of an integer file, which has one row, explicit states and no encoder"
            )
    else:
        expected |= {PREFILL} | ({SAMPLE} if is_of_text else set())
        expected |= {RESET} if config["state"] == "internal" else set()
        expected |= {ENCODE} if config.get("at_once") else set()
        expected |= set(LEARNING_SIGNATURES) if "learning" in config else set()
        optional = {WRITE, GATES} if is_of_text and config["state"] == "explicit" else set()
    if missing := sorted(expected - set(signatures)):
        raise ValueError(f"it has no signature {', '.join(missing)}")
    known = {PREFILL, RESET, ENCODE, SAMPLE, WRITE, GATES, *LEARNING_SIGNATURES}
    if "learning" in config and (config["state"], config["batch"], is_of_text) != ("explicit", 1, True):
        raise ValueError(
            f"its {CONFIG} is not of a file that learns, which has a vocabulary, one row and explicit states"
        )
    if more := sorted(known & set(signatures) - expected - optional):
        raise ValueError(f"its {CONFIG} does not fit its signatures: it has {', '.join(more)}")


def _require_step(config: Mapping[str, Any], is_of_text: bool, inputs: _Tensors, outputs: _Tensors) -> None:
    """Requires the inputs and outputs of a step, without states, to be those of the configuration."""
    expected = [TOKEN] if is_of_text else sorted(inputs)
    if not inputs or not sorted(config.get("inputs", expected)) == sorted(inputs) == expected:
        raise ValueError(f"its {CONFIG} does not fit its signatures: {DECODE} takes {_shown(inputs)}")
    expected = [LOGITS] if is_of_text else sorted(outputs)
    fits = sorted(config.get("outputs", expected)) == sorted(outputs) == expected
    if not fits or not outputs or len(config.get("delays", expected)) != len(expected):
        raise ValueError(f"its {CONFIG} does not fit its signatures: {DECODE} returns {_shown(outputs)}")
    for name, tensor in {**inputs, **outputs}.items():
        if tensor.shape[:1] != (config["batch"],) or 0 in tensor.shape:
            raise ValueError(f"its {CONFIG} does not fit its signatures: {shortened(name)} of {DECODE} is {tensor}")
    if is_of_text and (inputs[TOKEN].dtype, len(inputs[TOKEN].shape)) != ("int32", 1):
        raise ValueError(f"{TOKEN} of {DECODE} is {inputs[TOKEN]}")
    number = _number(config)
    if is_of_text and (outputs[LOGITS].dtype, len(outputs[LOGITS].shape)) != (number, 2):
        raise ValueError(f"{LOGITS} of {DECODE} is {outputs[LOGITS]}")
    if is_integer(config):
        for name, tensor in {**inputs, **outputs}.items():
            is_of_integers = tensor.dtype == number and tensor.scale is not None
            if not is_of_integers and (tensor.dtype != "int32" or name in outputs):
                raise ValueError(f"{shortened(name)} of {DECODE} is {tensor} in an integer file")


def _require_states(config: Mapping[str, Any], states: _Tensors) -> None:
    is_explicit = config["state"] == "explicit"
    if is_explicit != bool(states) or set(states) != {state_name(index) for index in range(len(states))}:
        raise ValueError(f"its {CONFIG} does not fit its signatures: its states are {_shown(states)}")
    for name, tensor in states.items():
        is_number = tensor.dtype == _number(config) and (tensor.scale is not None or not is_integer(config))
        if not is_number or tensor.shape[:1] != (config["batch"],):
            raise ValueError(f"{name} of {DECODE} is {tensor}")


def _number(config: Mapping[str, Any]) -> str:
    """Returns the dtype of logits and states."""
    return "int16" if is_integer(config) else "float32"


def _require_prefill(signature: Signature, inputs: _Tensors, outputs: _Tensors, states: _Tensors, batch: int) -> None:
    first = signature.inputs.get(PLURALS.get(next(iter(inputs)), next(iter(inputs))))
    steps = first.shape[1] if first is not None and len(first.shape) > 1 else 0
    expected = {
        PLURALS.get(name, name): Tensor(tensor.dtype, (batch, steps, *tensor.shape[1:]))
        for name, tensor in inputs.items()
    }
    if steps < 1:
        raise ValueError(f"{PREFILL} reads {steps} steps")
    _require(PREFILL, "inputs", signature.inputs, {**expected, **_vectors({LENGTH: "int32"}, batch), **states})
    _require(PREFILL, "outputs", signature.outputs, {**outputs, **states})


def _require_write(signature: Signature, states: _Tensors, batch: int) -> None:
    of_row = _vectors({TOKEN: "int32", LENGTH: "int32", **SAMPLING_INPUTS}, batch)
    uniforms = {UNIFORMS: Tensor("float32", (batch, WRITE_STEPS))}
    _require(WRITE, "inputs", signature.inputs, {**of_row, **uniforms, **states})
    written = {name: Tensor(dtype, (batch, WRITE_STEPS)) for name, dtype in _WRITTEN.items()}
    _require(WRITE, "outputs", signature.outputs, {**written, **_vectors({COUNT: "int32"}, batch), **states})


def _require_gates(signature: Signature, states: _Tensors, batch: int) -> None:
    _require(GATES, "inputs", signature.inputs, {**_vectors({TOKEN: "int32"}, batch), **states})
    gates = signature.outputs
    names = {update_gate_name(index) for index in range(len(gates))}
    fits = all(
        tensor.dtype == "float32" and len(tensor.shape) == 2 and tensor.shape[0] == batch for tensor in gates.values()
    )
    if not gates or set(gates) != names or not fits:
        expected = f"{update_gate_name(0)}, {update_gate_name(1)} and so on, each float32 [{batch}, units]"
        raise ValueError(f"the outputs of {GATES} must be {expected}. Received: {_shown(gates)}")


def _require_learning(signatures: Mapping[str, Signature], states: _Tensors) -> None:
    """Requires the signatures of a file that learns: one row, and weights with a row for each logit."""
    logits, found = signatures[DECODE].outputs[LOGITS].shape, signatures[GET_WEIGHTS].outputs.get(WEIGHTS)
    if found is None or len(found.shape) != 2 or found.shape[0] != logits[1] or found.shape[1] < 1:
        raise ValueError(f"{GET_WEIGHTS} returns {_shown(signatures[GET_WEIGHTS].outputs)}")
    several, shares = (1, LEARN_STEPS), {LOG_SHARES: Tensor("float32", (len(CANDIDATES),))}
    learned = {WEIGHTS: Tensor("float32", found.shape), **shares}
    given = {TOKENS: Tensor("int32", several), NEXT_TOKENS: Tensor("int32", several)}
    given |= {**_vectors({LENGTH: "int32", RATE: "float32"}, 1), **states}
    returned = {name: Tensor("float32", several) for name in (LOG_PROBABILITIES, MODEL_LOG_PROBABILITIES)}
    expected = {
        LEARN: (given, {**returned, **states}),
        GET_WEIGHTS: ({}, learned),
        SET_WEIGHTS: (learned, shares),
        RESET_WEIGHTS: ({}, shares),
    }
    for name, (inputs, outputs) in expected.items():
        _require(name, "inputs", signatures[name].inputs, inputs)
        _require(name, "outputs", signatures[name].outputs, outputs)


def _require_encoder(signature: Signature, at_once: Mapping[str, str | None], batch: int) -> None:
    lengths = _vectors({length: "int32" for length in at_once.values() if length is not None}, batch)
    given = {name: tensor for name, tensor in signature.inputs.items() if name in at_once}
    _require(ENCODE, "inputs", signature.inputs, given | lengths)
    for name, length in at_once.items():
        if name not in given or given[name].shape[:1] != (batch,) or len(given[name].shape) < (2 if length else 1):
            raise ValueError(f"{ENCODE} takes {_shown(signature.inputs)}, but its {CONFIG} says {shortened(name)}")


def _require(signature: str, kind: str, found: _Tensors, expected: _Tensors) -> None:
    if found != expected:
        raise ValueError(f"the {kind} of {signature} must be {_shown(expected)}. Received: {_shown(found)}")


def _vectors(dtypes: Mapping[str, str], batch: int) -> dict[str, Tensor]:
    return {name: Tensor(dtype, (batch,)) for name, dtype in dtypes.items()}


def _without_states(tensors: _Tensors) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not is_state(name)}


def _shown(tensors: _Tensors) -> str:
    return shortened(", ".join(f"{name} {tensor}" for name, tensor in sorted(tensors.items()))) or "nothing"
