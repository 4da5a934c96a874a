"""What an export with `learn=True` can be asked for."""

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ConfigError
from keras_seq_export.signatures import INTEGER


def require_learning_settings(vocabulary: Vocabulary | None, quantization: str, state: str, batch: int) -> None:
    """Requires settings that a file that learns can have.

    Raises:
        ConfigError: there is no vocabulary, the file has integers only, or it has internal states or several rows.
    """
    for holds, name, reason in (
        (vocabulary is not None, "vocabulary", "must be given with {}: a model learns from text"),
        (quantization != INTEGER, "quantization", 'must not be "integer" with {}: what is learned are float32 numbers'),
        (state == "explicit", "state", 'must be "explicit" with {}: what is learned is internal, the states are not'),
        (batch == 1, "batch", "must be 1 with {}: the model learns from one text"),
    ):
        if not holds:
            raise ConfigError(f"{{}} {reason}", name, "learn")
