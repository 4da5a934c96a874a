"""The report of an exported .tflite: its settings, its contents and how it compares with its model."""

import dataclasses
from typing import Any

from keras_seq.version import __version__
from keras_seq_export.tflite.integer.proof import IntegerProof
from keras_seq_export.tflite.parity import SignatureComparison
from keras_seq_export.tflite.quality import Quality


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """How a .tflite is exported; the bundle inside the file and the report both hold these.

    Attributes:
        keras_seq: version of this package.
        by_line: whether the model was trained line by line.
        quantization: dtype of the weights, `"none"` for float32.
        state: `"explicit"` or `"internal"`.
        batch: rows of each signature.
    """

    keras_seq: str = dataclasses.field(default=__version__, init=False)
    by_line: bool
    quantization: str
    state: str
    batch: int


@dataclasses.dataclass(frozen=True)
class TFLiteReport:
    """What is known of a .tflite that has been verified.

    Attributes:
        settings: how it was exported.
        operators: number of operators of each kind, by signature.
        stored_bytes: bytes of the constants by dtype.
        trained_in: floating-point dtypes in which the layers of the original model compute.
        comparison: the file against its model.
        quality: how well the file predicts text; None for a model that is not of text.
        proof: in which runtimes a file of integers gives the same bits; None for another file.
        vocabulary_sha256: SHA-256 of the vocabulary; None for a model that is not of text.
        bytes: size of the file.
    """

    settings: ExportSettings
    operators: dict[str, dict[str, int]]
    stored_bytes: dict[str, int]
    trained_in: list[str]
    comparison: SignatureComparison
    quality: Quality | None
    proof: IntegerProof | None
    vocabulary_sha256: str | None
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as one flat dictionary, without what does not apply to the model."""
        values = {
            "format": "tflite",
            **dataclasses.asdict(self.settings),
            "operators": self.operators,
            "stored_bytes": self.stored_bytes,
            "trained_in": self.trained_in,
            **self.comparison._asdict(),
            **({} if self.proof is None else self.proof._asdict()),
            "quality": None if self.quality is None else self.quality._asdict(),
            "vocabulary_sha256": self.vocabulary_sha256,
            "bytes": self.bytes,
        }
        return {name: value for name, value in values.items() if value is not None}
