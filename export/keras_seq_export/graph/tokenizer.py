"""`Vocabulary.encode` and `Vocabulary.decode` as operations of a graph, so that a server takes and returns strings."""

import tensorflow as tf

from keras_seq.data.tokens import EOS, PAD, START, WHITE_SPACE, WORD_PATTERN
from keras_seq.data.vocabulary import Vocabulary
from keras_seq_export.graph.request_checks import check, utf8_check

_SHOWN = 40  # characters of a token in an error message


class GraphTokenizer:
    """Encodes and decodes text in a graph. The vocabulary file becomes an asset of the SavedModel.

    Args:
        vocabulary: the vocabulary.
        file: path of its vocabulary file.

    Attributes:
        tables: the lookup tables, which the SavedModel has to track.
    """

    def __init__(self, vocabulary: Vocabulary, file: str):
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        unknown = -1 if vocabulary.unk_id is None else vocabulary.unk_id
        self._level = vocabulary.level
        self._id_of_line = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(file, tf.string, line, tf.int64, number), default_value=unknown
        )
        self._line_of_id = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(file, tf.int64, number, tf.string, line), default_value=""
        )
        self.tables = [self._id_of_line, self._line_of_id]

    def encode(self, text: tf.Tensor, name: str) -> tf.RaggedTensor:
        """Returns the token ids of each text, without `<s>` and `<eos>`.

        The request fails if a text is not UTF-8, has tokens outside a vocabulary without an unknown token, or, split at
        white space, has a word that is spelled like another reserved token.

        Args:
            text: `(batch,)` string.
            name: what errors call the text.

        Returns:
            int32 ids, `(batch, None)`.
        """
        with tf.control_dependencies([utf8_check(name, text)]):
            tokens = self._split(tf.identity(text))
        pieces = tokens.flat_values
        ids = self._id_of_line.lookup(_escape(pieces))
        if self._level == "whitespace":  # At the other levels, no token of a text is spelled like a reserved one.
            is_reserved = tf.reduce_any([tf.equal(pieces, token) for token in (PAD, START, EOS)], axis=0)
            ids = tf.where(is_reserved, tf.constant(-1, tf.int64), ids)
        foreign = tf.unique(tf.boolean_mask(pieces, ids < 0)).y
        shown = tf.strings.substr(foreign, 0, _SHOWN, unit="UTF8_CHAR")
        expected = f"`{name}` must hold only {'characters' if self._level == 'char' else 'words'} of the vocabulary."
        with tf.control_dependencies([check(tf.equal(tf.size(foreign), 0), expected, shown)]):
            return tokens.with_flat_values(tf.cast(ids, tf.int32))

    def decode(self, ids: tf.Tensor, length: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """Returns the text `(batch,)` of the first `length` `(batch,)` of the ids `(batch, time)` of each row.

        Args:
            ids: token ids without `<pad>`, `<s>` and `<eos>` among the first ones, `(batch, time)`.
            length: number of ids, `(batch,)`.
            after: the text that they continue, `(batch,)`; see `Vocabulary.decode`.
        """
        pieces = _unescape(self._line_of_id.lookup(tf.cast(ids, tf.int64)))
        if self._level == "whitespace":
            pieces = tf.strings.join([" ", pieces])
        text = tf.strings.reduce_join(tf.where(tf.sequence_mask(length, tf.shape(ids)[1]), pieces, ""), axis=1)
        if self._level != "whitespace":
            return text
        continues = tf.strings.regex_full_match(after, f"(?s).*[^{WHITE_SPACE}]")
        return tf.where(continues, text, tf.strings.regex_replace(text, "^ ", ""))

    def _split(self, text: tf.Tensor) -> tf.RaggedTensor:
        if self._level == "char":
            return tf.strings.unicode_split(text, "UTF-8")
        if self._level == "whitespace":
            return tf.strings.split(text)
        # TensorFlow can replace all matches of a pattern but not list them. So each match is followed by the byte FF,
        # which occurs in no UTF-8 text, and the text is split there.
        tokens = tf.strings.split(tf.strings.regex_replace(text, WORD_PATTERN, b"\\0\xff"), sep=b"\xff")
        return tf.ragged.boolean_mask(tokens, tf.strings.length(tokens) > 0)


def _escape(tokens: tf.Tensor) -> tf.Tensor:
    """Returns the lines of the vocabulary file for tokens."""
    for pattern, line in ((r"\\", rb"\\x5c"), (r"\n", rb"\\n"), (r"\r", rb"\\r")):
        tokens = tf.strings.regex_replace(tokens, pattern, line)
    return tokens


def _unescape(lines: tf.Tensor) -> tf.Tensor:
    """Returns the tokens of lines of the vocabulary file."""
    for pattern, token in ((r"\\n", b"\n"), (r"\\r", b"\r"), (r"\\x5c", rb"\\")):
        lines = tf.strings.regex_replace(lines, pattern, token)
    return lines
