"""`Vocabulary.encode` and `decode` as operations of a graph: strings in, strings out, without Python."""

import tensorflow as tf

from keras_seq.data.vocabulary import WORD_PATTERN, Vocabulary
from keras_seq_export.graph.request_checks import require, utf8_check


class GraphTokenizer:
    """`Vocabulary.encode` and `decode` in a graph; the vocabulary file becomes an asset of the SavedModel."""

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
        """Texts `(batch,)` -> int32 ids `(batch, None)`; `name` is that of the input, for the error."""
        with tf.control_dependencies([utf8_check(name, text)]):
            tokens = self._split(tf.identity(text))
        pieces = tokens.flat_values
        ids = self._id_of_line.lookup(_escape(pieces))
        foreign = tf.unique(tf.boolean_mask(pieces, ids < 0)).y
        check = require(
            tf.equal(tf.size(foreign), 0), f"`{name}` must hold only characters of the vocabulary.", foreign
        )
        with tf.control_dependencies([check]):
            return tokens.with_flat_values(tf.cast(ids, tf.int32))

    def decode(self, ids: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """The first `length` `(batch,)` of the ids `(batch, time)` -> texts `(batch,)`."""
        pieces = _unescape(self._line_of_id.lookup(tf.cast(ids, tf.int64)))
        return tf.strings.reduce_join(tf.where(tf.sequence_mask(length, tf.shape(ids)[1]), pieces, ""), axis=1)

    def _split(self, text: tf.Tensor) -> tf.RaggedTensor:
        if self._level == "char":
            return tf.strings.unicode_split(text, "UTF-8")
        # A graph can replace all matches, but not find them. The byte FF is in no UTF-8 text: here it ends each token.
        tokens = tf.strings.split(tf.strings.regex_replace(text, WORD_PATTERN, b"\\0\xff"), sep=b"\xff")
        return tf.ragged.boolean_mask(tokens, tf.strings.length(tokens) > 0)


def _escape(tokens: tf.Tensor) -> tf.Tensor:
    """Tokens as the lines of the vocabulary file."""
    for pattern, line in ((r"\\", rb"\\x5c"), (r"\n", rb"\\n"), (r"\r", rb"\\r")):
        tokens = tf.strings.regex_replace(tokens, pattern, line)
    return tokens


def _unescape(lines: tf.Tensor) -> tf.Tensor:
    """Lines of the vocabulary file as tokens."""
    for pattern, token in ((r"\\n", b"\n"), (r"\\r", b"\r"), (r"\\x5c", rb"\\")):
        lines = tf.strings.regex_replace(lines, pattern, token)
    return lines
