"""The report of an exported SavedModel: what the file contains, and how it was compared with its model."""

import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.version import __version__
from keras_seq_export.graph.step import GraphStep


@dataclasses.dataclass(frozen=True)
class SavedModelReport:
    """What a verified SavedModel contains; `assets.extra/report.json` holds the same fields.

    Attributes:
        format: always "SavedModel".
        signatures: the comparison of each signature with the model, by name: how many `texts_compared`,
            `tokens_compared`, `steps_compared`, `rows_compared` or `draws_compared`; the `largest_difference` of an
            output, or of a log-probability in nats; and the `near_ties`, draws so close to an edge that rounding decides
            them.
        delays: for each output of `decode`, the number of steps after which it is known. Those of the steps before mean
            nothing.
        frames: number of frames that a step reads.
        vocabulary: `level`, `size` and `sha256`; None for a model that is not of text.
        bytes: the size of each file, by its path inside the SavedModel.
        versions: of keras_seq, keras, tensorflow and python, which wrote the file.
    """

    format: str = dataclasses.field(default="SavedModel", init=False)
    signatures: Mapping[str, Mapping[str, float]]
    delays: Mapping[str, int]
    frames: int
    vocabulary: Mapping[str, str | int] | None
    bytes: Mapping[str, int]
    versions: Mapping[str, str]

    @classmethod
    def of(
        cls,
        directory: Path,
        step: GraphStep,
        vocabulary: Vocabulary | None,
        signatures: Mapping[str, Mapping[str, float]],
    ) -> "SavedModelReport":
        """Returns the report of the SavedModel in `directory`, given the comparisons of its signatures."""
        files, graph = sorted(file for file in directory.rglob("*") if file.is_file()), step.stepped.graph
        of_vocabulary = None
        if vocabulary is not None:
            of_vocabulary = {"level": vocabulary.level, "size": len(vocabulary), "sha256": vocabulary.sha256}
        return cls(
            signatures=signatures,
            delays={name: output.delay for name, output in zip(step.outputs, graph.outputs, strict=True)},
            frames=graph.frames,
            vocabulary=of_vocabulary,
            bytes={file.relative_to(directory).as_posix(): file.stat().st_size for file in files},
            versions={
                "keras_seq": __version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
                "python": platform.python_version(),
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)
