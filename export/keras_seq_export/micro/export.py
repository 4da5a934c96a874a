"""Exporting a model as a C header for the decoder in export/native/micro/, proved equal to LiteRT before it is published."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export.micro.header import Header, header_of, require_few_tokens
from keras_seq_export.micro.memory import planned
from keras_seq_export.micro.names import name_of_header
from keras_seq_export.micro.proof import prove_program
from keras_seq_export.micro.reading import read_program
from keras_seq_export.publishing import publishing_export
from keras_seq_export.signatures import INTEGER, START
from keras_seq_export.tflite.bundle import Bundle, read_bundle, to_json
from keras_seq_export.tflite.export import MAX_LOSS, export_tflite

# What is said of the .tflite file itself, and not of the model in it.
_OF_THE_FILE = ("format", "operators", "stored_bytes", "bytes", "state", "batch")


def export_c(
    model: keras.Model,
    vocabulary: Vocabulary | None,
    path: str | os.PathLike[str],
    sampling: Mapping[str, Any] | None = None,
    by_line: bool = False,
    *,
    held_out: str | None = None,
    max_loss: float = MAX_LOSS,
    card: Mapping[str, Any] | None = None,
    frame_range: float | None = None,
) -> dict[str, Any]:
    """Writes a C header with a model, for the decoder without any runtime in export/native/micro/.

    The model is exported in integers first, as `export_tflite(..., quantization="integer")` does it and with its checks. Then
    the file becomes a short list of operators. Before the header is published, both are run for some hundred steps: every
    integer of the outputs and states must be the same. `<name>.report.json` beside the header holds the report.

    The name of the model in C is that of the header in lower case, such as `shakespeare` for `Shakespeare.h`; its macros have
    it in capitals.

    Args:
        model: see `export_tflite`; GRU, LSTM, SimpleRNN and dense layers after token ids or frames, and n-grams.
        vocabulary: the vocabulary of the model, at most 65,536 tokens, with n-grams 32,768; None for a model that is not of text.
        path: the header to write; it must not exist. Its name ends with `.h` and is not one of C, C++ or the decoder.
        sampling: the default settings, `..._SETTINGS` in the header. `bias` and `allow_unk` are part of the model.
        by_line: see `export_tflite`, also for the other arguments.
        held_out: text to measure the model on.
        max_loss: nats per token that the integers may cost.
        card: entries of the model card, which the report has.
        frame_range: the largest absolute value of a number in a frame.

    Returns:
        The report of `export_tflite` about the model, with the `name` in C; `flash_bytes` of the model's constants;
        `memory_bytes`, the decoder's memory; and `program_steps`, how many steps were compared.

    Raises:
        ExportError: `path` exists, the model has no form in integers or in the C decoder, or they cost too much. No file is
            left behind.
        ValueError: an argument is out of range.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
        >>> report = export_c(model, vocabulary, tempfile.mkdtemp() + "/to_be.h")
        >>> report["name"], report["memory_bytes"] < 200
        ('to_be', True)
    """
    path = Path(path)
    name = name_of_header(path)
    require_few_tokens(vocabulary)
    with (
        publishing_export(path, path.with_name(f"{path.name}.report.json")) as (partial, partial_report),
        tempfile.TemporaryDirectory() as folder,
    ):
        tflite = Path(folder) / "model.tflite"
        report = export_tflite(
            model,
            vocabulary,
            tflite,
            INTEGER,
            sampling,
            by_line,
            held_out=held_out,
            max_loss=max_loss,
            card=card,
            frame_range=frame_range,
        )
        header, steps = translated(read_bundle(tflite), name)
        partial.write_text(header.text, encoding="ascii")
        report = {key: value for key, value in report.items() if key not in _OF_THE_FILE}
        report |= {"flash_bytes": header.flash, "memory_bytes": header.memory, "program_steps": steps}
        report = {"format": "c", "name": name, **report}
        partial_report.write_bytes(to_json(report))
    return report


def translated(bundle: Bundle, name: str) -> tuple[Header, int]:
    """Returns the header of an integer .tflite, and the number of steps in which it was compared with LiteRT.

    Args:
        bundle: the content of the file.
        name: name of the model in C, from `names.c_name`.

    Raises:
        ExportError: the file has no form in the C decoder.
    """
    memory = planned(read_program(bundle.model, _first_states(bundle.model)))
    steps = prove_program(bundle.model, memory)
    sampling = SamplingSettings(**bundle.config.get("sampling", {}))
    return header_of(memory, bundle.vocabulary, sampling, name, _described(bundle.card)), steps


def _described(card: Mapping[str, Any]) -> str:
    """Returns what the first line of the header says of the model."""
    said = {"": card.get("name"), "trained on ": card.get("corpus"), "license ": card.get("license")}
    return ", ".join(f"{label}{value}" for label, value in said.items() if value)


def _first_states(content: bytes) -> dict[str, np.ndarray]:
    """Returns the states that the signature `start` gives; none without it."""
    interpreter = Interpreter(model_content=content)
    if START not in interpreter.get_signature_list():
        return {}
    found: dict[str, np.ndarray] = interpreter.get_signature_runner(START)()
    return found
