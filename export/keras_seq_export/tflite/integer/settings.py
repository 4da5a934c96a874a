"""What an export with `quantization="integer"` can be asked for."""

from keras_seq import require
from keras_seq.errors import ConfigError
from keras_seq.generation.sampling import SamplingSettings
from keras_seq.models.inputs import is_integer
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.signatures import INTEGER


def require_integer_settings(state: str, batch: int, gates: bool, sampling: SamplingSettings) -> None:
    """Requires settings that a file of integers can have.

    Raises:
        ConfigError: one of them needs floating-point numbers, or another signature than `decode` and `start`.
    """
    for holds, name, reason in (
        (state == "explicit", "state", 'must be "explicit" with {}="integer": the caller holds the states'),
        (batch == 1, "batch", 'must be 1 with {}="integer": the file takes one row'),
        (not gates, "gates", 'must be left out with {}="integer": the file has no signature but `decode` and `start`'),
        (
            sampling.repetition_penalty == 1,
            "repetition_penalty",
            'must be 1 (off) with {}="integer": the integer draw has none',
        ),
    ):
        if not holds:
            raise ConfigError(f"{{}} {reason}", name, "quantization")


def require_integer_step(step: GraphStep, quantization: str, frame_range: float | None) -> None:
    """Requires a model without an encoder for a file of integers, and the range of frames where it is used, and only there.

    Raises:
        ArgumentError: `frame_range` is not a positive number.
        ConfigError: the model has an encoder, or `frame_range` is missing or has no meaning.
    """
    if quantization == INTEGER and step.has_encoder:
        raise ConfigError(
            '{} must not be "integer" for a model with an encoder: it is a second signature, with floating-point numbers',
            "quantization",
        )
    reads_frames = any(not (given.is_token or is_integer(given.tensor)) for given in step.inputs)
    is_used = quantization == INTEGER and reads_frames
    if frame_range is not None:
        require.positive_number("frame_range", frame_range)
        if not is_used:
            message = '{} must be left out: it is for {}="integer" and models that read frames'
            raise ConfigError(message, "frame_range", "quantization")
    elif is_used:
        message = '{} must be given with {}="integer" for a model that reads frames: the largest absolute value in a frame, such as 4'
        raise ConfigError(message, "frame_range", "quantization")
