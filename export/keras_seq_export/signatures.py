"""Names of every signature, input and output: the one contract between the exporters and the runtimes."""

DECODE = "decode"
SAMPLE = "sample"
TOKEN = "token"
LOGITS = "logits"
NEXT_TOKEN = "next_token"
LOG_PROBABILITY = "log_probability"
UNIFORM = "uniform"


def state_name(index: int) -> str:
    """Returns the name of the `index`-th state, the same as input and as output."""
    return f"state_{index}"
