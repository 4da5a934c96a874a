"""Hypothesis strategies of texts."""

from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # all of Unicode except lone surrogates
# Characters at the borders of the classes of `WORD_PATTERN`, which a uniform draw rarely hits.
TRICKY_TEXT = st.text(
    st.sampled_from("ab Z9'’-_.,!?\n\r\t\0\x1c\x85\xa0\u200b\u200d\u2028\u3000\ufeffé\u0301ß中文かナไทย한글😀")
)
