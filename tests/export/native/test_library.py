"""The C library of export/native: what it returns is what Python returns, and every mistake is an error value."""

import ctypes
import functools
import json
import os
import re
import subprocess
import threading
from pathlib import Path

import numpy as np
import paths
import pytest
from bundles import rebundled
from hamlet import NGRAMS, TEXT, prompts
from hypothesis import given, settings
from hypothesis import strategies as st
from native_library import (
    BAD_ARGUMENT,
    BAD_FILE,
    BAD_TEXT,
    FAILED,
    IN_USE,
    OK,
    NativeError,
    NativeModel,
    _Error,
    status_of,
)

import keras_seq as ks
from keras_seq.errors import ModelError
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export import LiteRTSampler
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle

# The states of the second model do not begin at zero.
MODELS = {
    "char": {},
    "word": {"level": "word", "starting": True},
    "whitespace": {"level": "whitespace"},
    "n-grams": NGRAMS,
}


@pytest.fixture(scope="module")
def opened(library, small_tflite):
    """`opened(name)` returns one of MODELS in the library and in Python."""
    models = {}

    def open_once(name):
        if name not in models:
            path = small_tflite(**MODELS[name])
            models[name] = NativeModel(library, path), LiteRTSampler(path)
        return models[name]

    yield open_once
    for native, _ in models.values():
        assert native.close() == OK


@pytest.fixture(scope="module")
def char(opened):
    return opened("char")


@pytest.mark.parametrize("name", MODELS)
def test_twenty_texts_are_those_of_python(opened, name):
    native, sampler = opened(name)
    for prompt, options in prompts():
        text = sampler.sample(prompt, logprobs=True, **options)
        written = native.write(prompt, **options)
        assert written.text == text
        assert written.finish_reason == text.finish_reason
        assert [piece.token for piece in written.pieces] == text.token_ids
        found = [piece.log_probability for piece in written.pieces]
        np.testing.assert_allclose(found, text.log_probabilities, atol=1e-4)
        assert written.seed == options["seed"] % 2**64


def test_a_model_in_memory_is_that_of_the_file(library, small_tflite, char):
    content = bytearray(small_tflite().read_bytes())
    with NativeModel(library, bytes(content)) as native:
        content[:] = bytes(len(content))  # The library has its own copy.
        assert native.write("To be", seed=3).text == char[0].write("To be", seed=3).text


@pytest.mark.parametrize(
    "stop", [[" "], ["e"], ["the", "th"], ["not to", "to be", "question"], ["\n", "ä"], ["zzzz"], ["e", "e "]], ids=repr
)
@pytest.mark.parametrize("name", MODELS)
def test_stop_strings_end_the_text_as_in_python(opened, name, stop):
    native, sampler = opened(name)
    for prompt, options in list(prompts())[::4]:
        text = sampler.sample(prompt, stop=stop, **options)
        written = native.write(prompt, stop=stop, **options)
        assert written.text == text
        assert written.finish_reason == text.finish_reason
        assert [piece.token for piece in written.pieces] == text.token_ids


@settings(max_examples=60)
@given(data=st.data())
def test_random_stop_strings_end_the_text_as_in_python(char, data):
    native, sampler = char
    seed = data.draw(st.integers(0, 20))
    text = str(sampler.sample("To be", seed=seed, max_tokens=60))
    start = data.draw(st.integers(0, max(0, len(text) - 1)))
    cut = text[start : start + data.draw(st.integers(1, 8))]
    stop = [cut, *data.draw(st.lists(st.text(" abcdefinorst", min_size=1, max_size=4), max_size=3))] if cut else ["e"]
    expected = list(sampler.generate("To be", seed=seed, max_tokens=60, stop=stop))
    written = native.write("To be", seed=seed, max_tokens=60, stop=stop)
    assert [piece.text for piece in written.pieces] == expected


@pytest.mark.parametrize("after", [1, 5, 33, 40])
def test_the_callback_stops_the_text(char, after):
    native, sampler = char
    count = iter(range(1, 100))
    written = native.write("To be", seed=1, max_tokens=60, on_piece=lambda piece: next(count) < after)
    assert (len(written.pieces), written.finish_reason) == (after, "stopped")
    assert written.text == sampler.sample("To be", seed=1, max_tokens=after)


def test_without_options_the_settings_of_the_file_and_a_random_seed_are_used(library, small_tflite):
    path = small_tflite(sampling={"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.01})
    with NativeModel(library, path) as native:
        first, second = native.options(), native.options()
        assert (first.max_tokens, first.top_k, first.stop_count) == (200, 3, 0)
        np.testing.assert_array_equal(
            [first.temperature, first.top_p, first.min_p], np.array([0.5, 0.9, 0.01], np.float32)
        )
        assert first.seed != second.seed
        assert first.seed < 2**63
        written = native.write("To be", max_tokens=40)
        assert written.text == LiteRTSampler(path).sample("To be", max_tokens=40, seed=written.seed)


# ---- tokens ----

PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
KNOWN = st.text(st.sampled_from(sorted(set(TEXT))))
WORDS = st.lists(st.sampled_from(["To", " be", " or", ",", " ", "don't", "'", "’", "\n", " not", "汉", " é"])).map(
    "".join
)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=100)
@given(text=PLAIN | KNOWN | WORDS)
def test_texts_are_encoded_and_decoded_as_in_python(opened, name, text):
    native, sampler = opened(name)
    try:
        expected = sampler.vocabulary.encode(text).tolist()
    except ValueError:
        with pytest.raises(NativeError, match="text must hold only") as raised:
            native.encode(text)
        assert raised.value.status == BAD_TEXT
    else:
        assert native.encode(text) == expected
        assert native.decode(expected) == sampler.vocabulary.decode(expected)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=50)
@given(data=st.data())
def test_any_ids_are_decoded_as_in_python(opened, name, data):
    native, sampler = opened(name)
    ids = data.draw(st.lists(st.integers(0, len(sampler.vocabulary) - 1)))
    assert native.decode(ids) == sampler.vocabulary.decode(ids)


def test_the_ids_of_tokens_are_those_of_the_vocabulary(opened, library):
    for name in MODELS:
        native, sampler = opened(name)
        vocabulary = sampler.vocabulary
        assert library.ks_vocabulary_size(native.handle) == len(vocabulary)
        assert library.ks_eos_id(native.handle) == vocabulary.eos_id
        unknown = -1 if vocabulary.unk_id is None else vocabulary.unk_id
        assert library.ks_unknown_id(native.handle) == unknown


# ---- scores and suggestions ----


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(text=KNOWN | WORDS)
def test_scores_are_those_of_python(opened, name, text):
    native, sampler = opened(name)
    try:
        expected = sampler.score(text).log_probabilities
    except ValueError:
        return
    np.testing.assert_allclose(native.score(text), expected, rtol=0, atol=1e-9)


def compare_suggestions(native, sampler, text, count):
    expected = sampler.suggest(text, count)
    found = native.suggest(text, count)
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    np.testing.assert_allclose([one[2] for one in found], [one[2] for one in expected], rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=80)
@given(text=KNOWN | WORDS | st.integers(0, len(TEXT)).map(lambda size: TEXT[:size]), count=st.integers(1, 100))
def test_suggestions_are_those_of_python(opened, name, text, count):
    native, sampler = opened(name)
    try:
        sampler.vocabulary.encode(text)
    except ValueError:
        return
    compare_suggestions(native, sampler, text, count)


@pytest.mark.parametrize("name", MODELS)
def test_a_text_that_grows_and_shrinks_is_read_like_a_new_one(opened, name):
    native, sampler = opened(name)
    text = TEXT[:30]
    for size in [*range(30), *range(30, 0, -7), 100]:
        compare_suggestions(native, sampler, (text if size <= 30 else TEXT)[:size], 3)
    assert native.write(text, seed=1).text == sampler.sample(text, seed=1)  # It goes on after what was read.


# ---- mistakes ----


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1. Received: 0"),
        ({"max_tokens": -5}, "max_tokens must be at least 1"),
        ({"temperature": -0.5}, "temperature must be a number from 0 to 1e6. Received: -0.5"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 0.0}, "top_p must be a number from above 0 to 1"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"min_p": float("inf")}, "min_p must be"),
        ({"stop": ["a", ""]}, "stop must be UTF-8 of at least one character; number 2 is not"),
        ({"stop": [b"\xff"]}, "stop must be UTF-8"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(char, options, sentence):
    with pytest.raises(NativeError, match=re.escape(sentence)) as raised:
        char[0].write("To", **options)
    assert raised.value.status == BAD_ARGUMENT


def test_a_text_that_is_not_utf_8_is_refused(char):
    native, _ = char
    for call in (native.encode, native.write, native.suggest, native.score):
        with pytest.raises(NativeError, match="must be UTF-8; byte 2 is not") as raised:
            call(b"To\xe2\x80")
        assert raised.value.status == BAD_TEXT


def test_null_and_numbers_out_of_range_are_refused(char, library):
    native, _ = char
    for count in (0, 101):
        with pytest.raises(NativeError, match=f"count must be from 1 to 100. Received: {count}"):
            native.suggest("To", count)
    for ids in ([-1], [0, 10**6]):
        with pytest.raises(NativeError, match="ids must be at least 0 and below"):
            native.decode(ids)
    nothing = {
        "ks_open": 2,
        "ks_open_memory": 3,
        "ks_encode": 4,
        "ks_decode": 5,
        "ks_default_options": 2,
        "ks_write": 6,
        "ks_suggest": 5,
        "ks_score": 4,
        "ks_default_learn_options": 2,
        "ks_learn": 4,
        "ks_forget": 1,
        "ks_save_learned": 2,
        "ks_load_learned": 2,
        "ks_save_learned_memory": 3,
        "ks_load_learned_memory": 3,
    }
    for name, count in nothing.items():
        function = getattr(library, name)
        zeros = [kind() if kind is not None else None for kind in function.argtypes[:count]]
        error = _Error()
        assert function(*zeros, ctypes.byref(error)) == BAD_ARGUMENT, name
        assert b"must not be NULL" in error.text
        assert function(*zeros, None) == BAD_ARGUMENT  # Nobody wants the sentence.
    for name, arguments in (("ks_open", [None]), ("ks_open_memory", [None, 0])):
        handle = ctypes.c_void_p(1)
        assert getattr(library, name)(*arguments, ctypes.byref(handle), None) == BAD_ARGUMENT
        assert handle.value is None
    assert library.ks_close(None) == OK
    library.ks_free(None)


def test_a_long_word_and_a_long_path_leave_room_for_the_reason(opened, library, tmp_path):
    native, _ = opened("whitespace")
    with pytest.raises(NativeError, match=r"must hold only words .*<eos>"):
        native.encode("To <eos>")
    with pytest.raises(NativeError, match="UTF-8; byte 3 is not"):
        native.encode(b"To \xff" + b"o" * 10_000)
    folder = tmp_path / ("é" * 100)
    folder.mkdir()
    (folder / "a.tflite").write_bytes(b"to be or not")
    with pytest.raises(NativeError, match=r"\.\.\..*a\.tflite is not a .tflite file"):
        NativeModel(library, folder / "a.tflite")
    with pytest.raises(NativeError, match="the file cannot be read: No such file"):
        NativeModel(library, Path(os.fsdecode(b"/tmp/\xff.tflite")))


@pytest.mark.parametrize(
    "sampling",
    [
        "{}",
        '{"temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1, "allow_unk": false, "bias": {}}',
        '{"temperature": 1e6, "top_k": 99999999999999999999999, "top_p": 1e-300, "min_p": 1.0, "bias": {"a": 1.5}}',
        '{"temperature": 1000000.0000001}',
        '{"top_p": 1.00000000001}',
        '{"top_p": 1e-999}',
        '{"min_p": -1e-300}',
        '{"top_p": 7, "top_p": 0.5}',
        '{"\\u0074op_p": 7}',
        '{"top_k": -1}',
        '{"top_k": 2.0}',
        '{"top_k": true}',
        '{"temperature": "1"}',
        '{"temperature": 1e999}',
        '{"allow_unk": 1}',
        '{"bias": []}',
        '{"bias": {"a": "1"}}',
        '{"bias": {"a": true}}',
        '{"beam": 1}',
        '{"": 1}',
        *(f'{{"{name}": null}}' for name in SamplingSettings.__dataclass_fields__),
    ],
)
def test_sampling_settings_of_a_file_are_accepted_or_refused_as_by_python(
    library, small_tflite, tmp_path, char, sampling
):
    config = json.dumps(char[1].config | {"sampling": "here"}).replace('"here"', sampling)
    path = rebundled(small_tflite(), tmp_path / "a.tflite", config=config.encode())
    try:
        sampler = LiteRTSampler(path)
    except BundleError:
        with pytest.raises(NativeError, match=r"has a damaged config\.json: ") as refused:
            NativeModel(library, path)
        assert refused.value.status == BAD_FILE
    else:
        with NativeModel(library, path) as native:
            assert native.write("To", seed=1, max_tokens=9).text == sampler.sample("To", seed=1, max_tokens=9)


def test_a_vocabulary_without_a_reserved_token_is_refused(library, small_tflite, tmp_path):
    exported = small_tflite(level="whitespace")
    for token in ("<pad>", "<s>", "<eos>"):
        tokens = [{token: "other"}.get(one, one) for one in read_bundle(exported).vocabulary.tokens]
        vocabulary = "".join(f"{one}\n" for one in tokens).encode()
        path = rebundled(exported, tmp_path / "a.tflite", vocabulary=vocabulary)
        with pytest.raises(NativeError, match=r"vocabulary.* no <s> or <eos>|a vocabulary without <pad>") as refused:
            NativeModel(library, path)
        assert refused.value.status == BAD_FILE


def test_a_device_or_a_folder_is_not_opened(library, tmp_path):
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(NativeError, match="is a directory or a device; name a") as raised:
            NativeModel(library, path)
        assert raised.value.status == BAD_FILE


def test_logits_that_are_not_finite_are_named(library, tmp_path, small_tflite):
    path = broken_after_the_prompt(small_tflite(), tmp_path / "nan.tflite")
    with NativeModel(library, path) as native:
        with pytest.raises(NativeError, match="token 0 cannot be sampled: the model's logits are not finite") as raised:
            native.write("To be", seed=1)
        assert raised.value.status == FAILED
        with pytest.raises(NativeError, match="no word can be suggested: the model's logits are not finite"):
            native.suggest("To be")
        with pytest.raises(NativeError, match="cannot be scored: the model's logits there are NaN"):
            native.score("To be")
        assert native.encode("To")  # It stays usable.


def broken_after_the_prompt(exported, path):
    """Writes a .tflite again with NaN instead of all its biases of logits."""
    bundle = read_bundle(exported)
    model = flatbuffer.parse(bundle.model)
    size = 4 * len(bundle.vocabulary)
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) == size:
            numbers = np.frombuffer(bytes(buffer.data), np.float32)
            if np.ptp(numbers) > 0:
                buffer.data = np.frombuffer(np.full_like(numbers, np.nan).tobytes(), np.uint8)
    return rebundled(exported, path, model=flatbuffer.pack(model))


def test_the_tokens_before_logits_that_are_not_finite_are_given(library, tmp_path, small_tflite):
    """They become NaN when the model reads a certain letter."""
    exported = small_tflite()
    whole = LiteRTSampler(exported).sample("To ", seed=3, max_tokens=100)
    letters = [letter for letter in dict.fromkeys(whole) if letter.isalpha() and letter not in "To "][:3]
    assert len(letters) == 3
    for letter in letters:
        path = broken_after(exported, tmp_path / f"{letter}.tflite", letter)
        generation = LiteRTSampler(path).generate("To ", seed=3, max_tokens=100)
        expected = []
        with pytest.raises(ModelError, match="cannot be drawn") as refused:
            expected.extend(generation)
        with (
            NativeModel(library, path) as native,
            pytest.raises(NativeError, match=f"token {len(expected)} cannot be sampled") as raised,
        ):
            native.write("To ", seed=3, max_tokens=100)
        assert str(refused.value).startswith(f"token {len(expected)} ")
        assert [piece.text for piece in raised.value.pieces] == expected
        assert raised.value.status == FAILED


def broken_after(exported, path, letter):
    """Writes a .tflite again with NaN in the row of a letter in the table that is looked up first."""
    bundle = read_bundle(exported)
    model = flatbuffer.parse(bundle.model)
    size, row = len(bundle.vocabulary), bundle.vocabulary.ids[letter]
    changed = set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            table = graph.tensors[operator.inputs[0]] if len(operator.inputs) else None
            data = None if table is None else model.buffers[table.buffer].data
            is_table = flatbuffer.operator_name(model, operator) == "GATHER" and data is not None
            if is_table and len(table.shape) == 2 and table.shape[0] == size and table.buffer not in changed:
                changed.add(table.buffer)
                numbers = np.frombuffer(bytes(data), np.float32).reshape(table.shape).copy()
                numbers[row] = np.nan
                model.buffers[table.buffer].data = np.frombuffer(numbers.tobytes(), np.uint8)
    assert changed
    return rebundled(exported, path, model=flatbuffer.pack(model))


# ---- threads ----


def test_separate_models_run_at_the_same_time(library, small_tflite):
    path = small_tflite()
    sampler = LiteRTSampler(path)
    expected = [str(sampler.sample("To be", seed=seed)) for seed in range(8)]
    found = [None] * 8

    def write(seed):
        with NativeModel(library, path) as native:  # Opened at the same time, too.
            found[seed] = [native.write("To be", seed=seed).text for _ in range(5)]

    threads = [threading.Thread(target=write, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[text] * 5 for text in expected]


def test_a_model_in_use_refuses_a_second_call(char):
    native, sampler = char
    statuses = []

    def call_again(piece):
        calls = [native.write, native.suggest, functools.partial(native.score, "To")]
        for run in (lambda call: call(), in_a_thread):
            for call in calls:
                run(lambda call=call: statuses.append(status_of(call)))
        statuses.append(native.close())
        assert native.encode("To")  # This needs no reservation.
        return False

    def in_a_thread(call):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    written = native.write("To be", seed=1, on_piece=call_again)
    assert statuses == [IN_USE] * 7
    assert written.finish_reason == "stopped"
    assert native.write("To be", seed=1).text == sampler.sample("To be", seed=1)


def test_many_threads_on_one_model_get_their_text_or_an_error(library, small_tflite):
    path = small_tflite()
    sampler = LiteRTSampler(path)
    expected = [str(sampler.sample("To be", seed=seed, max_tokens=50)) for seed in range(4)]
    suggested = sampler.suggest("To b")
    wrong = []
    with NativeModel(library, path) as native:

        def use(seed):
            for _ in range(30):
                try:
                    if native.write("To be", seed=seed, max_tokens=50).text != expected[seed]:
                        wrong.append(seed)
                    if [one[:2] for one in native.suggest("To b")] != [one[:2] for one in suggested]:
                        wrong.append("suggest")
                except NativeError as error:
                    if error.status != IN_USE:
                        wrong.append(error)

        threads = [threading.Thread(target=use, args=[seed]) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# ---- the library itself ----


def test_the_version_is_that_of_the_package(library):
    assert library.ks_version().decode() == ks.__version__


def test_it_is_small_and_exports_only_its_functions(build):
    assert (build / "libkeras_seq.so").stat().st_size < 84_000
    listed = subprocess.run(["nm", "-D", "--defined-only", build / "libkeras_seq.so"], capture_output=True, check=True)
    exported = {line.split()[-1] for line in listed.stdout.decode().splitlines()}
    header = (paths.REPOSITORY / "export" / "native" / "keras_seq.h").read_text()
    assert exported == set(re.findall(r"KS_API [\w *]*?\b(ks_\w+)\(", header))
    archive = subprocess.run(["nm", "-g", "--defined-only", build / "libkeras_seq.a"], capture_output=True, check=True)
    names = [line.split()[-1] for line in archive.stdout.decode().splitlines() if len(line.split()) == 3]
    assert all(name.startswith("ks_") for name in names)


def test_it_neither_prints_nor_ends_the_process(build):
    undefined = subprocess.run(["nm", "-u", build / "libkeras_seq.a"], capture_output=True, check=True).stdout.decode()
    used = {line.split()[-1] for line in undefined.splitlines() if " U " in line}
    assert not used & {
        "exit",
        "_exit",
        "abort",
        "printf",
        "puts",
        "fputs",
        "fwrite",
        "stdout",
        "stderr",
        "dup2",
        "setlocale",
    }


def test_the_numbers_of_a_file_do_not_depend_on_the_locale(library, small_tflite, tmp_path):
    path = small_tflite(sampling={"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.01})
    for number in ("0.8", "8e-1", "0.80000000000000004", "0.0000000000008", "1e-7", "123456.789012345", "1e6"):
        config = json.dumps(LiteRTSampler(path).config | {"sampling": {}})
        config = config.replace('"sampling": {}', f'"sampling": {{"temperature": {number}}}')
        changed = rebundled(path, tmp_path / "a.tflite", config=config.encode())
        with NativeModel(library, changed) as native:
            assert np.float32(native.options().temperature) == np.float32(float(number))
