"""Hypothesis strategies of texts, and of the vocabularies that others made for them."""

from hypothesis import strategies as st

from keras_seq.data.tokens import split_whitespace
from keras_seq.data.vocabulary import Vocabulary

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # all of Unicode except lone surrogates
# Characters at the borders of the classes of `WORD_PATTERN`, which a uniform draw rarely hits.
TRICKY_TEXT = st.text(
    st.sampled_from("ab Z9'’-_.,!?\n\r\t\0\x1c\x85\xa0\u200b\u200d\u2028\u3000\ufeffé\u0301ß中文かナไทย한글😀")
)


def own_vocabulary(texts, level):
    """Returns the vocabulary of every other token of some texts, with the reserved tokens among them."""
    tokens = sorted(
        set("".join(texts)) if level == "char" else {word for text in texts for word in split_whitespace(text)}
    )
    kept = [token for token in tokens[::2] if token not in RESERVED_NAMES and not token.startswith("\ufeff")]
    return Vocabulary.from_tokens(
        ["", *kept[:1], "[UNK]", "<eos>", *kept[1:], "<s>", "x" if level == "char" else "several"]
    )


RESERVED_NAMES = ("<pad>", "[UNK]", "<s>", "<eos>", "x", "several")
