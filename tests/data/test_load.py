import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_seq
from keras_seq.data.corpus import Corpus
from keras_seq.data.load import load_corpus
from keras_seq.errors import CorpusError


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def test_the_parts_are_contiguous_and_in_order(tmp_path):
    text = "".join(chr(0x4E00 + i) for i in range(1000))
    corpus = load_corpus(write(tmp_path, "hanzi.txt", text), validation=0.1, test=0.25)
    assert corpus == Corpus(train=text[:650], validation=text[650:750], test=text[750:], name="hanzi", by_line=False)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), st.data())
def test_parts_concatenate_to_the_text(tmp_path_factory, text, data):
    text = "x" + text
    validation = data.draw(st.floats(0, 0.99))
    test = data.draw(st.floats(0, 0.999 - validation))
    path = write(tmp_path_factory.getbasetemp(), "any.txt", text)
    corpus = load_corpus(path, validation, test)
    assert corpus.train + corpus.validation + corpus.test == text
    assert corpus.train
    assert len(corpus.validation) <= len(text) * validation < len(corpus.validation) + 1
    assert len(corpus.test) <= len(text) * test < len(corpus.test) + 1


@given(st.text("ab\n\r", min_size=1), st.data())
def test_no_line_is_cut_by_line(tmp_path_factory, text, data):
    text = "x" + text
    validation = data.draw(st.floats(0, 0.99))
    test = data.draw(st.floats(0, 0.999 - validation))
    corpus = load_corpus(write(tmp_path_factory.getbasetemp(), "any.txt", text), validation, test, by_line=True)
    parts = [corpus.train, corpus.validation, corpus.test]
    assert "".join(parts) == text
    lines = [line for part in parts for line in part.split("\n") if line]
    assert lines == [line for line in text.split("\n") if line]
    assert len(corpus.test) <= len(text) * test
    assert corpus.by_line


def test_the_byte_order_mark_is_dropped_and_line_ends_stay(tmp_path):
    path = write(tmp_path, "windows.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert load_corpus(str(path), 0, 0).train == "one\r\ntwo\rthree\n"


def test_folders_and_fields_of_tables_are_joined(tmp_path):
    (tmp_path / "poems").mkdir()
    write(tmp_path, "poems/b.txt", "two\n")
    write(tmp_path, "poems/a.txt", "one")
    table = write(tmp_path, "news.csv", "title,body\nx,three\n")
    corpus = load_corpus([tmp_path / "poems", f"{table}:body"], 0, 0)
    assert corpus.train == "one\ntwo\nthree\n"
    assert corpus.name == "a and 2 more"
    assert corpus.tables == ("news.csv: comma-separated, header title, body, text from body",)


def test_several_files_are_joined_in_order(tmp_path):
    texts = [("b.txt", "b"), ("a.txt", "a\n"), ("r.txt", "r\r"), ("c.txt", "\ufeffc")]
    paths = [write(tmp_path, name, data) for name, data in texts]
    corpus = load_corpus(paths, 0, 0)
    assert corpus.train == "b\na\nr\r\nc"
    assert corpus.name == "b and 3 more"
    assert load_corpus(tuple(map(str, paths)), 0, 0) == corpus


def test_agreement_is_a_corpus_of_lines():
    corpus = load_corpus("agreement", validation=0.2, test=0)
    assert corpus.by_line
    assert corpus == keras_seq.agreement_corpus(validation=0.2, test=0)


def test_an_empty_list_is_rejected():
    with pytest.raises(CorpusError, match="an empty list was received"):
        load_corpus([])


@pytest.mark.parametrize(
    ("fractions", "name"),
    [((-0.1, 0), "validation"), ((0, 1), "test"), ((float("nan"), 0), "validation"), ((True, 0), "validation")],
)
def test_fractions_are_checked_before_the_file(fractions, name):
    with pytest.raises(ValueError, match=f"^`{name}` must"):
        load_corpus("absent.txt", *fractions)


def test_the_fractions_must_leave_a_training_part():
    with pytest.raises(ValueError, match="the rest is the training part"):
        load_corpus("absent.txt", 0.5, 0.5)
