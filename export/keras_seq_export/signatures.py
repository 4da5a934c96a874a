"""Names of every signature, input and output: the one contract between the exporters and the runtimes."""

from keras_seq.sampling import DRAWING

GENERATE = "serving_default"
DECODE = "decode"
SAMPLE = "sample"
SCORE = "score"
TOKEN = "token"
LOGITS = "logits"
NEXT_TOKEN = "next_token"
LOG_PROBABILITY = "log_probability"
LOG_PROBABILITIES = "log_probabilities"
TEXT = "text"
UNIFORM = "uniform"
# Of a draw, in this order.
SETTINGS = dict(zip(DRAWING, ("float32", "int32", "float32", "float32"), strict=True))


def state_name(index: int) -> str:
    """Returns the name of the `index`-th state, the same as input and as output."""
    return f"state_{index}"
