"""Corpora as they are named on the command line, and what the program prints about them."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_seq.data.corpus import Corpus
from keras_seq.data.encoded_text import positions_of
from keras_seq.data.load import load_corpus
from keras_seq.data.source_files import STANDARD_INPUT
from keras_seq.data.tfds import is_tfds
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import TextError


@contextlib.contextmanager
def naming_corpus() -> Iterator[None]:
    """Names the corpus in errors about characters of its text."""
    try:
        yield
    except TextError as error:
        raise TextError("corpus", *error.args[1:]) from error


def corpus_source(names: Sequence[str]) -> str | list[str]:
    """Returns the name of the built-in grammar, or absolute paths, so that a run can be evaluated from any directory."""
    if list(names) == ["agreement"]:
        return "agreement"
    return [name if name == STANDARD_INPUT or is_tfds(name) else os.path.abspath(name) for name in names]


def corpus_name(source: str | Sequence[str]) -> str:
    """Returns a short name of a corpus for the model card."""
    return source if isinstance(source, str) else ", ".join(Path(file).stem for file in source)


def read_corpus(names: Sequence[str], **options: Any) -> Corpus:
    """Reads a corpus as `keras_seq.load_corpus` does, and prints how its tables were read."""
    corpus = load_corpus(corpus_source(names), **options)
    report_tables(corpus.tables)
    return corpus


def report_tables(tables: Sequence[str]) -> None:
    """Prints how the tables of a corpus were read (`keras_seq.data.corpus.Corpus.tables`)."""
    for table in tables:
        print(f"keras-seq: {table}", file=sys.stderr)


def describe_corpus(corpus: Corpus, vocabulary: Vocabulary) -> str:
    """Returns how tables were read, and the size of the training text and of the vocabulary, with the part of `<unk>`."""
    text = corpus.train
    size = f"{len(text):,} characters" if isinstance(text, str) else f"{len(text):,} tokens on disk"
    unknown = ""
    if vocabulary.unk_id is not None:
        ids = vocabulary.encode(text) if isinstance(text, str) else text
        unknown = f", {positions_of(ids, vocabulary.unk_id).size / max(1, len(ids)):.1%} of the text is <unk>"
    tokens = f"{len(vocabulary):,} tokens, {len(vocabulary.reserved_ids)} of them reserved"
    read = f"{corpus.name}: {size} to train on, a vocabulary of {tokens}{unknown}"
    return "\n".join([*corpus.tables, read])
