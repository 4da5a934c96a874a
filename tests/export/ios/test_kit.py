"""The kit for iOS: its files in Swift on Linux, beside Python's. The calls of Apple's frameworks and LiteRT go to stand-ins."""

import kit_checks
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit_process import KitProcess
from swift import server_command
from unicode_texts import ANY_TEXT, TRICKY_TEXT

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.bundle import read_bundle


@pytest.fixture(scope="module")
def kit(made_once):
    with KitProcess(list(map(str, server_command(made_once)))) as process:
        yield process


def test_the_random_stream_and_the_tokens_are_those_of_the_vectors(kit):
    kit_checks.require_random_stream(kit)
    kit_checks.require_vectors(kit)


def test_every_character_has_the_class_of_python(kit):
    kit_checks.require_classes(kit)


@pytest.mark.parametrize("level", ["char", "word", "whitespace"])
@settings(max_examples=30)
@given(
    texts=st.lists(ANY_TEXT | TRICKY_TEXT, min_size=8, max_size=40).filter(lambda texts: "".join(texts).split()),
    others=st.lists(TRICKY_TEXT, max_size=8),
)
def test_every_text_is_encoded_and_decoded_as_in_python(kit, level, texts, others):
    kit_checks.require_tokens(kit, level, texts, others)


def test_the_same_bundles_are_refused_as_in_python(kit, small_tflite, tmp_path):
    kit_checks.require_same_bundles(kit, small_tflite(card={"license": "CC0-1.0"}), tmp_path)


def test_the_same_stored_settings_are_refused_as_in_python(kit, small_tflite, tmp_path):
    kit_checks.require_same_sampling(kit, small_tflite(), tmp_path)


@pytest.mark.parametrize("of_model", kit_checks.MODELS)
def test_eight_texts_are_those_of_python(kit, small_tflite, of_model):
    assert "write" in kit_checks.require_texts(kit, small_tflite(**of_model), count=8)


def test_what_a_draw_cannot_give(kit, small_tflite, tmp_path):
    kit_checks.require_failures(kit, small_tflite(), tmp_path)


def test_settings_are_changed_between_two_pieces(kit, small_tflite):
    kit_checks.require_changes(kit, small_tflite())


@pytest.mark.parametrize("of_model", kit_checks.MODELS[:3])
def test_scores_and_suggestions_are_those_of_python(kit, small_tflite, of_model):
    kit_checks.require_scores(kit, small_tflite(**of_model))
    kit_checks.require_suggestions(kit, small_tflite(**of_model))


def test_a_file_on_a_device(kit, small_tflite):
    model = small_tflite(card={"license": "CC0-1.0"})
    kit.load(model)
    sampler = LiteRTSampler(model)
    found = kit.ask("device", path=str(model), prompt="To be", max_tokens=50, seed=7)
    assert found["pieces"] == list(sampler.generate("To be", max_tokens=50, seed=7))
    assert found["suggestions"] == [one.insert for one in sampler.suggest("To be")]
    assert found["score"] == pytest.approx(sampler.score("To be").log_probabilities.tolist(), rel=1e-12)
    assert found["afterwards"] == "the model was closed"
    assert found["card"] == read_bundle(model).card
    assert found["open"] == [0, 0]  # Every buffer was freed, by `close` or without it.
