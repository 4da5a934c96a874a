"""Files whose signatures were changed: the runtime refuses what it could not use, before the first step."""

import json

import pytest
from bundles import rebundled

from keras_seq.errors import ModelError
from keras_seq_export import LiteRTDecoder, LiteRTSampler
from keras_seq_export.errors import BundleError
from keras_seq_export.signatures import SAMPLING_INPUTS
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.signature import Signature, Tensor
from keras_seq_export.tflite.signature_checks import require_signatures


def changed(exported, path, change):
    """Writes a file again after `change(signatures)`, which takes the signatures of its flatbuffer by name."""
    model = flatbuffer.parse(read_bundle(exported).model)
    signatures = {one.signatureKey.decode(): one for one in model.signatureDefs}
    change(signatures)
    model.signatureDefs = list(signatures.values())
    return rebundled(exported, path, model=flatbuffer.pack(model))


def tensor_of(entries, name):
    return next(one for one in entries if one.name == name.encode())


def without(kind, signature, name):
    def change(signatures):
        entries = getattr(signatures[signature], kind)
        entries.remove(tensor_of(entries, name))

    return change


def swapped(signature, kind, one, other):
    def change(signatures):
        entries = getattr(signatures[signature], kind)
        first, second = tensor_of(entries, one), tensor_of(entries, other)
        first.tensorIndex, second.tensorIndex = second.tensorIndex, first.tensorIndex

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda signatures: signatures.pop("decode"), "it has no signature decode"),
        (lambda signatures: signatures.pop("prefill"), "it has no signature prefill"),
        (lambda signatures: signatures.pop("sample"), "it has no signature sample"),
        (lambda signatures: signatures.clear(), "it has no signature decode, prefill, sample"),
        (without("outputs", "decode", "logits"), "decode returns nothing"),
        (without("outputs", "decode", "state_1"), "the outputs of decode must be"),
        (without("outputs", "prefill", "logits"), "the outputs of prefill must be"),
        (without("outputs", "prefill", "state_0"), "the outputs of prefill must be"),
        (without("outputs", "sample", "next_token"), "the outputs of sample must be"),
        (without("inputs", "sample", "top_p"), "the inputs of sample must be"),
        (without("inputs", "prefill", "length"), "the inputs of prefill must be"),
        (without("inputs", "prefill", "tokens"), "prefill reads 0 steps"),
        (without("inputs", "decode", "token"), "decode takes nothing"),
        (swapped("sample", "outputs", "next_token", "log_probability"), "the outputs of sample must be"),
        (swapped("decode", "inputs", "token", "state_0"), "cannot be loaded"),
        (swapped("decode", "outputs", "state_0", "state_1"), "the outputs of decode must be"),
        (
            lambda signatures: setattr(tensor_of(signatures["decode"].inputs, "state_1"), "name", b"state_x"),
            "its states are",
        ),
    ],
)
def test_a_changed_signature_is_refused(change, words, exported, tmp_path):
    path = changed(exported, tmp_path / "changed.tflite", change)
    for kind in (LiteRTDecoder, LiteRTSampler):
        with pytest.raises(BundleError, match=words) as found:
            kind(path)
        assert len(str(found.value)) < 800


def test_a_sampled_token_outside_the_vocabulary_is_refused(exported, tmp_path):
    """The output `next_token` is the input `top_k`."""

    def change(signatures):
        del signatures["write"]
        sample = signatures["sample"]
        tensor_of(sample.outputs, "next_token").tensorIndex = tensor_of(sample.inputs, "top_k").tensorIndex

    sampler = LiteRTSampler(changed(exported, tmp_path / "changed.tflite", change))
    size = len(sampler.vocabulary)
    with pytest.raises(ModelError, match=f"the file has a damaged model: `sample` returned token {size} of {size}"):
        sampler.sample("To", top_k=10_000)


def signatures_with_gates(**gates):
    """Returns the signatures of a file of text with two rows and one state, and with these outputs of `gates`."""
    token, state = {"token": Tensor("int32", (2,))}, {"state_0": Tensor("float32", (2, 8))}
    many = {"tokens": Tensor("int32", (2, 64)), "length": Tensor("int32", (2,))}
    settings = {name: Tensor(dtype, (2,)) for name, dtype in SAMPLING_INPUTS.items()}
    drawn = {"next_token": Tensor("int32", (2,)), "log_probability": Tensor("float32", (2,))}
    logits, uniform = {"logits": Tensor("float32", (2, 30))}, {"uniform": Tensor("float32", (2,))}
    return {
        "decode": Signature(token | state, logits | state, {}),
        "prefill": Signature(many | state, logits | state, {}),
        "sample": Signature(token | uniform | settings | state, drawn | state, {}),
        "gates": Signature(token | state, gates, {}),
    }


EXPLICIT = {"state": "explicit", "batch": 2}
GATE = Tensor("float32", (2, 8))


def test_gates_of_any_number_of_layers_and_units_are_taken():
    require_signatures(signatures_with_gates(update_gate_0=GATE), EXPLICIT, is_of_text=True)
    two = signatures_with_gates(update_gate_0=GATE, update_gate_1=Tensor("float32", (2, 5)))
    require_signatures(two, EXPLICIT, is_of_text=True)


@pytest.mark.parametrize(
    "gates",
    [
        {},
        {"update_gate_1": GATE},
        {"update_gate_0": GATE, "update_gate_2": GATE},
        {"update_gate_0": GATE, "state_0": GATE},
        {"update_gate_0": Tensor("float16", (2, 8))},
        {"update_gate_0": Tensor("float32", (1, 8))},
        {"update_gate_0": Tensor("float32", (2,))},
        {"update_gate_0": Tensor("float32", (2, 1, 8))},
        {"update_gate_0": GATE, "update_gate_1": Tensor("float32", (1, 8))},
    ],
    ids=str,
)
def test_other_outputs_of_gates_are_refused(gates):
    with pytest.raises(ValueError, match=r"^the outputs of gates must be update_gate_0, .* each float32 \[2, units\]"):
        require_signatures(signatures_with_gates(**gates), EXPLICIT, is_of_text=True)


def test_gates_of_a_file_that_is_not_of_text_or_has_internal_states_are_refused():
    """`update_gates` gives a token and the states."""
    signatures = signatures_with_gates(update_gate_0=GATE)
    del signatures["sample"]
    with pytest.raises(ValueError, match=r"does not fit its signatures: it has gates$"):
        require_signatures(signatures, EXPLICIT, is_of_text=False)
    internal = {
        name: Signature(_without_states(one.inputs), _without_states(one.outputs), {})
        for name, one in signatures_with_gates(update_gate_0=GATE).items()
    } | {"reset": Signature({}, {}, {})}
    with pytest.raises(ValueError, match=r"does not fit its signatures: it has gates$"):
        require_signatures(internal, {"state": "internal", "batch": 2}, is_of_text=True)
    del internal["gates"]
    require_signatures(internal, {"state": "internal", "batch": 2}, is_of_text=True)


def _without_states(tensors):
    return {name: tensor for name, tensor in tensors.items() if name != "state_0"}


def test_a_file_without_inputs_is_refused():
    signatures = {name: Signature({}, {"output": Tensor("float32", (1, 2))}, {}) for name in ("decode", "prefill")}
    with pytest.raises(ValueError, match="decode takes nothing"):
        require_signatures(signatures, {"state": "explicit", "batch": 1}, is_of_text=False)


@pytest.fixture(scope="module")
def learns(small_tflite):
    return small_tflite(learn=True)


NAMES = "get_weights, learn, reset_weights, set_weights"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(
            (lambda signatures, name=name: signatures.pop(name), f"it has no signature {name}")
            for name in NAMES.split(", ")
        ),
        (without("outputs", "get_weights", "weights"), "get_weights returns log_shares"),
        (without("outputs", "get_weights", "log_shares"), "the outputs of get_weights must be"),
        (without("inputs", "set_weights", "weights"), "the inputs of set_weights must be"),
        (without("outputs", "set_weights", "log_shares"), "the outputs of set_weights must be"),
        (without("outputs", "reset_weights", "log_shares"), "the outputs of reset_weights must be"),
        (without("inputs", "learn", "rate"), "the inputs of learn must be"),
        (without("inputs", "learn", "next_tokens"), "the inputs of learn must be"),
        (without("inputs", "learn", "state_1"), "the inputs of learn must be"),
        (without("outputs", "learn", "model_log_probabilities"), "the outputs of learn must be"),
        (without("outputs", "learn", "state_0"), "the outputs of learn must be"),
        (swapped("learn", "inputs", "length", "rate"), "the inputs of learn must be"),
        (swapped("learn", "outputs", "state_0", "log_probabilities"), "the outputs of learn must be"),
        (swapped("get_weights", "outputs", "weights", "log_shares"), "get_weights returns"),
        (swapped("set_weights", "inputs", "weights", "log_shares"), "the inputs of set_weights must be"),
    ],
)
def test_a_changed_signature_of_a_file_that_learns_is_refused(change, words, learns, tmp_path):
    path = changed(learns, tmp_path / "changed.tflite", change)
    with pytest.raises(BundleError, match=words) as found:
        LiteRTSampler(path)
    assert len(str(found.value)) < 800


def test_a_configuration_that_does_not_know_that_a_file_learns_is_refused(learns, tmp_path):
    config = read_bundle(learns).config
    del config["learning"]
    path = rebundled(learns, tmp_path / "changed.tflite", config=json.dumps(config).encode())
    with pytest.raises(BundleError, match=f"does not fit its signatures: it has {NAMES}"):
        LiteRTSampler(path)


@pytest.mark.parametrize(
    ("config", "is_of_text"),
    [
        ({"state": "explicit", "batch": 1}, False),
        ({"state": "explicit", "batch": 2}, True),
        ({"state": "internal", "batch": 1}, True),
    ],
    ids=str,
)
def test_what_cannot_learn_is_refused(config, is_of_text):
    """Even if it has all signatures: the runtime gives one row and the states."""
    names = ["decode", "prefill", "sample", "reset", "learn", "get_weights", "set_weights", "reset_weights"]
    signatures = {name: Signature({}, {}, {}) for name in names}
    with pytest.raises(ValueError, match="is not of a file that learns, which has a vocabulary, one row and explicit"):
        require_signatures(signatures, {**config, "learning": {"rate": 12.0}}, is_of_text=is_of_text)
