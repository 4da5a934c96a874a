"""Names of every signature, input and output. The exporters write them; the runtimes and clients read them.

The states at the start of a text or series are the outputs `state_0`, `state_1`, ... of the signature `start`. In a
.tflite, `start` has no inputs and is left out if all of these states are zero; with internal states, `reset` sets them.
In a SavedModel, `start` is always there, and the states are also the defaults of the inputs of `decode`, `prefill` and
`sample`. In a model with an encoder, `encode` returns these states instead. Its inputs are what the model takes at once:
`source`, a sequence, with its `length`, and `context`, a vector.

Several inputs of one kind have the names that they have in the model, and so do several outputs.
"""

from collections.abc import Mapping
from typing import Any

from keras_seq.generation.sampling import DRAW_SETTINGS

GENERATE = "serving_default"
DECODE = "decode"
PREFILL = "prefill"
SAMPLE = "sample"
WRITE = "write"
GATES = "gates"
RESET = "reset"
LEARN, GET_WEIGHTS, SET_WEIGHTS, RESET_WEIGHTS = "learn", "get_weights", "set_weights", "reset_weights"
# The signatures of a .tflite that learns on the device; a file has all of them or none.
LEARNING_SIGNATURES = (LEARN, GET_WEIGHTS, SET_WEIGHTS, RESET_WEIGHTS)
SCORE = "score"
START = "start"
ENCODE = "encode"
# Input of one step: a token id in a model of text, a frame in a model of real-valued series.
TOKEN, FRAME = "token", "frame"
# Input of `prefill`: several of them.
TOKENS, FRAMES = "tokens", "frames"
PLURALS = {TOKEN: TOKENS, FRAME: FRAMES}
LENGTH = "length"
# Output of `start` in a SavedModel of text with an encoder: JSON that says what `encode` takes and returns.
ENCODER = "encoder"
# Input of `start` in a SavedModel without a vocabulary: one number of any value for each row.
ROW = "row"
# Output of one step: logits in a model of text, otherwise whatever the model returns.
LOGITS, OUTPUT = "logits", "output"
NEXT_TOKEN = "next_token"
LOG_PROBABILITY = "log_probability"
LOG_PROBABILITIES = "log_probabilities"
# Input and output of `learn`: the token that follows each, and the log-probabilities of the model that has learned nothing.
NEXT_TOKENS, MODEL_LOG_PROBABILITIES = "next_tokens", "model_log_probabilities"
RATE = "rate"  # Input of `learn`.
WEIGHTS, LOG_SHARES = "weights", "log_shares"  # What was learned.
COUNT = "count"  # Output of `write`: how many tokens it has drawn.
PROMPT, TEXT = "prompt", "text"
MAX_TOKENS, SEED = "max_tokens", "seed"
TOKEN_IDS, FINISH_REASON = "token_ids", "finish_reason"
VOCABULARY_BYTES = "vocabulary_bytes"  # TensorFlow Serving requires this suffix for arbitrary bytes.
# Output of each signature of a SavedModel of text: a hash of the model, because states belong to one model.
MODEL_ID = "model_id"
UNIFORM, UNIFORMS = "uniform", "uniforms"
# Sampling settings, inputs of `serving_default` and `sample` in this order, with their dtypes.
SAMPLING_INPUTS = dict(zip(DRAW_SETTINGS, ("float32", "int32", "float32", "float32"), strict=True))
# Inputs of `serving_default`, with their dtypes.
GENERATE_INPUTS = {PROMPT: "string", MAX_TOKENS: "int32", **SAMPLING_INPUTS, SEED: "int64"}
# Where the states live: inputs and outputs of each signature, or variables of the model.
STATES = ("explicit", "internal")
# All of a .tflite is integers: int8 weights, int16 activations and states. The file has `decode`, and `start` if needed.
INTEGER = "integer"
# Quantizations of a .tflite file, with the dtype of the weights in the file.
QUANTIZATIONS = {"none": "float32", "float16": "float16", "int8": "int8", "int4": "int4", INTEGER: "int8"}
# Those whose files have `sample`.
WITH_SAMPLE = tuple(name for name in QUANTIZATIONS if name != INTEGER)
# Tokens that one call of `prefill` can read. The call takes time only for the tokens given by `length`.
PREFILL_STEPS = 64
# Tokens that one call of `learn` can read.
LEARN_STEPS = 64
# Tokens that one call of `write` can draw.
WRITE_STEPS = 32
# Rows in one batch of the server; `batching_parameters.txt` and the client use the same number.
MAX_BATCH_SIZE = 32
# Rows that a signature of a SavedModel takes, so that `batching_parameters.txt` may be changed: of texts, and of others.
MAX_ROWS, MAX_SERIES_ROWS = 256, 4096


def is_quantized(quantization: str) -> bool:
    """Returns whether a .tflite with this quantization stores its weights in another dtype than float32."""
    return QUANTIZATIONS[quantization] != "float32"


def is_integer(config: Mapping[str, Any]) -> bool:
    """Returns whether all numbers in a .tflite with this configuration are integers."""
    return config.get("quantization") == INTEGER


def state_name(index: int) -> str:
    """Returns the name of the `index`-th state, the same as input and as output."""
    return f"state_{index}"


def update_gate_name(index: int) -> str:
    """Returns the name of the update gate of the `index`-th GRU layer, an output of `gates`; states have other numbers."""
    return f"update_gate_{index}"


def is_state(name: str) -> bool:
    """Returns whether an input or output is a state."""
    return name.startswith("state_")
