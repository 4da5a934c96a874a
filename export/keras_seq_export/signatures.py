"""Names of every signature, input and output: the one contract between the exporters and the runtimes."""

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
SETTINGS = {"temperature": "float32", "top_k": "int32", "top_p": "float32", "min_p": "float32"}


def state_name(index: int) -> str:
    """Returns the name of the `index`-th state, the same as input and as output."""
    return f"state_{index}"
