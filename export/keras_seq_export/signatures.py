"""Names of every signature, input and output: the one contract between the exporters and the runtimes."""

from keras_seq.generation.sampling import DRAWING

GENERATE = "serving_default"
DECODE = "decode"
PREFILL = "prefill"
SAMPLE = "sample"
RESET = "reset"
SCORE = "score"
START = "start"
# What a step reads, in a model of text and in one of real-valued frames; in `prefill` several of them.
TOKEN, FRAME = "token", "frame"
TOKENS, FRAMES = "tokens", "frames"
LENGTH = "length"
# What a step gives, in a model of text and in any other.
LOGITS, OUTPUT = "logits", "output"
NEXT_TOKEN = "next_token"
LOG_PROBABILITY = "log_probability"
LOG_PROBABILITIES = "log_probabilities"
PROMPT, TEXT = "prompt", "text"
MAX_TOKENS, SEED = "max_tokens", "seed"
TOKEN_IDS, FINISH_REASON = "token_ids", "finish_reason"
VOCABULARY_BYTES = "vocabulary_bytes"  # TensorFlow Serving wants names of arbitrary bytes to end so.
UNIFORM = "uniform"
# Of a draw, in this order.
SAMPLING_INPUTS = dict(zip(DRAWING, ("float32", "int32", "float32", "float32"), strict=True))
# What `serving_default` takes.
GENERATE_INPUTS = {PROMPT: "string", MAX_TOKENS: "int32", **SAMPLING_INPUTS, SEED: "int64"}
# Where the states are: inputs and outputs of each signature, or variables of the model.
STATES = ("explicit", "internal")
# What the weights of a .tflite are, and the dtype that it must then have.
QUANTIZATIONS = {"none": "float32", "float16": "float16", "int8": "int8", "int4": "int4"}
# Steps that `prefill` reads at once; its time is that of the steps it is given, not of so many.
PREFILL_STEPS = 64
# Rows that a server takes at once, as we configure it and as our client asks.
MAX_BATCH_SIZE = 32


def state_name(index: int) -> str:
    """Returns the name of the `index`-th state, the same as input and as output."""
    return f"state_{index}"


def is_state(name: str) -> bool:
    """Returns whether an input or output is a state."""
    return name.startswith("state_")
