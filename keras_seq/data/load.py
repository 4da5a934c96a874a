"""`keras_seq.load_corpus`: reads a corpus from files, a dataset, an encoded corpus or the agreement grammar."""

from collections.abc import Sequence

from keras_seq.data.agreement import agreement_corpus
from keras_seq.data.corpus import Corpus, cut_off_end, require_fractions
from keras_seq.data.encoded_corpus import is_encoded_corpus, load_encoded_corpus
from keras_seq.data.source_files import Path
from keras_seq.data.sources import list_sources
from keras_seq.data.text_files import and_more, describe_tables, joined, read_texts, within_memory
from keras_seq.data.tfds import is_tfds, load_tfds


def load_corpus(
    path: Path | Sequence[Path], validation: float = 0.05, test: float = 0.05, by_line: bool = False
) -> Corpus:
    """Reads a text and cuts it into a training, a validation and a test part, in this order.

    Args:
        path: one of:

            * one or more text files: a file, compressed or not, a folder, a pattern, a field of a table such as
              `"news.csv:body"`, or `"-"` for standard input (`keras_seq.data.text_files.read_texts`). Files are joined
              in the order given, with a line feed after a file that does not end in one. Together they have at most
              one character for 16 bytes of physical memory.
            * `"tfds:NAME"`, a dataset of TensorFlow Datasets, with its own splits (`keras_seq.data.tfds.load_tfds`).
            * the directory of an encoded corpus, with its own parts (`keras_seq.encode_corpus`).
            * `"agreement"` for `keras_seq.agreement_corpus()`; write `"./agreement"` for a file of that name.
        validation: fraction of the characters in the validation part, rounded down; at least 0.
        test: fraction of the characters in the test part, rounded down; at least 0, and below 1 together with
            `validation`.
        by_line: whether every line is a sequence of its own. If so, no line is cut, and the parts are slightly smaller.

    Returns:
        The corpus; that of `"agreement"` is always by line.

    Raises:
        CorpusError: a file is missing, unreadable, damaged, empty, or not text; or the header or the delimiter of a
            table cannot be determined.
        ArgumentError: a fraction is out of range.
        ConfigError: the fractions add up to 1 or more.
    """
    require_fractions(validation, test)
    if path == "agreement":
        return agreement_corpus(validation=validation, test=test)
    sources = list_sources(path)
    if is_encoded_corpus(sources[0]):
        return load_encoded_corpus(sources[0])
    if is_tfds(sources[0]):
        return load_tfds(str(sources[0]), validation, test, by_line)
    texts = list(read_texts(*sources))
    text = "".join(within_memory(joined(pieces for _, pieces in texts)))
    sizes = {"test": int(len(text) * test), "validation": int(len(text) * validation)}
    train, parts = cut_off_end(text, sizes, by_line)
    name = and_more([name for name, _ in texts])
    return Corpus(train=train, **parts, name=name, by_line=by_line, tables=describe_tables(*sources))
