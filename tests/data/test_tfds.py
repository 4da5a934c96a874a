"""Real builders of TensorFlow Datasets: one whose download is a local file, and one without a download."""

import builtins
import shutil
import socket

import paths
import pytest

from keras_seq.data.encode import encode_corpus
from keras_seq.data.load import load_corpus
from keras_seq.errors import CorpusError

tfds = pytest.importorskip("tensorflow_datasets", reason="needs pip install tensorflow-datasets")

SHAKESPEARE = paths.REPOSITORY.parent / "shared" / "data" / "tiny_shakespeare.txt"


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    return tmp_path


if SHAKESPEARE.is_file():  # The text, 1.1 MB, is not part of the repository.

    def test_the_splits_of_tiny_shakespeare_are_kept(data_dir):
        manual = data_dir / "downloads" / "manual"
        manual.mkdir(parents=True)
        shutil.copy(SHAKESPEARE, manual / "input.txt")  # The builder checks its checksum.
        corpus = load_corpus("tfds:tiny_shakespeare")
        text = SHAKESPEARE.read_text(encoding="utf-8")
        assert corpus.train + corpus.validation + corpus.test == text
        assert len(corpus.train) == int(len(text) * 0.9)
        assert (corpus.name, corpus.by_line) == ("tiny_shakespeare", False)
        assert load_corpus(["tfds:tiny_shakespeare:text"]) == corpus  # It is already prepared.


class KerasSeqLetters(tfds.core.GeneratorBasedBuilder):
    """A dataset without a download, with two text features and no validation split; one feature is blank."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"title": tfds.features.Text(), "body": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40, "a"), "test": self._generate_examples(3, "b")}

    def _generate_examples(self, count, letter):
        for number in range(count):
            yield number, {"title": " ", "body": f"{letter}{number:02}"}


def test_a_dataset_is_encoded_on_disk(data_dir, tmp_path):
    corpus = encode_corpus("tfds:keras_seq_letters:body", tmp_path / "letters", validation=0.1, processes=1)
    read = corpus.train.vocabulary.decode(corpus.train[0 : len(corpus.train)])
    assert sorted(corpus.test.split()) == ["b00", "b01", "b02"]
    assert len(corpus.validation) == 16
    assert sorted((read + corpus.validation).split()) == [f"a{number:02}" for number in range(40)]
    with pytest.raises(CorpusError, match="it holds nothing but white space"):
        encode_corpus("tfds:keras_seq_letters:title", tmp_path / "titles", processes=1)


def test_a_missing_split_is_cut_off_the_training_part(data_dir):
    corpus = load_corpus("tfds:keras_seq_letters:body", validation=0.1, test=0.5)
    assert sorted(corpus.test.split()) == ["b00", "b01", "b02"]  # the split of the dataset
    whole = corpus.train + corpus.validation
    assert sorted(whole.split()) == [f"a{number:02}" for number in range(40)]
    assert len(corpus.validation) == 16
    with pytest.raises(CorpusError, match="the split train of tfds:keras_seq_letters:title has none"):
        load_corpus("tfds:keras_seq_letters:title")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tfds:tiny_shakespear", "has no dataset tiny_shakespear; similar names: tiny_shakespeare"),
        ("tfds:ag_news_subset", r"has several text features; name one of .*title.*, for example tfds:ag_news_subset:"),
        ("tfds:ag_news_subset:body", "has no text feature body; name one of .*title"),
        ("tfds:mnist", "must have a text feature, but tfds:mnist has none"),
        ("tfds:wiki40b/klingon", "has no dataset wiki40b/klingon: "),
    ],
)
def test_the_error_lists_what_is_available(source, message, data_dir):
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(source)
    assert "\n" not in str(caught.value)


def test_without_a_network_there_is_an_error_at_once(data_dir, monkeypatch):
    def fail(host, *_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(
        CorpusError,
        match=r"from raw\.githubusercontent\.com, but the host cannot be found: .*; connect to the network, or put",
    ):
        load_corpus("tfds:tiny_shakespeare")


def test_a_download_with_another_checksum_is_rejected(data_dir):
    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "input.txt").write_text("to be")
    with pytest.raises(CorpusError, match="cannot be prepared: NonMatchingChecksumError"):
        load_corpus("tfds:tiny_shakespeare")


def test_without_tensorflow_datasets_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "tensorflow_datasets":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        CorpusError, match="requires TensorFlow Datasets: pip install tensorflow-datasets importlib_resources"
    ):
        load_corpus("tfds:tiny_shakespeare")


def test_a_dataset_must_be_the_only_source():
    with pytest.raises(CorpusError, match="a dataset or an encoded corpus must be the only source"):
        load_corpus(["tfds:tiny_shakespeare", "a.txt"])
