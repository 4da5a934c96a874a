"""The C program of export/native, and the parts of the library that need no LiteRT."""

import json
import math
import re
import subprocess

import numpy as np
import paths
import pytest
from brought_models import VOCABULARY
from bundles import damaged_bundles, rebundled, without_output
from devices import need_program
from hamlet import TEXT, prompts
from hypothesis import given, settings
from hypothesis import strategies as st
from kit_checks import changed_bundles
from native_library import BAD_FILE
from sequence_models import translation
from unicode_texts import own_vocabulary

import keras_seq as ks
from keras_seq.data.tokens import RESERVED
from keras_seq.errors import VocabularyError
from keras_seq.generation.threefry import uniform
from keras_seq_export import LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite.bundle import read_bundle

NATIVE = paths.REPOSITORY / "export" / "native"
VECTORS = json.loads(paths.VECTORS.read_text())


@pytest.fixture(scope="module")
def model(small_tflite):
    return small_tflite()


def write(program, model, prompt, **options):
    flags = [f"--{name}={value}" for name, value in options.items()]
    return subprocess.run([program, model, f"--prompt={prompt}", *flags], capture_output=True, check=False, timeout=60)


# The states of the second model do not begin at zero.
@pytest.mark.parametrize(
    "of_model",
    [
        pytest.param({}, id="char"),
        pytest.param({"level": "word", "starting": True}, id="word"),
        pytest.param({"gates": True}, id="gates"),
        pytest.param({"learn": True}, id="learn"),
        pytest.param({"level": "whitespace"}, id="whitespace"),
    ],
)
def test_texts_are_those_of_python(program, of_model, small_tflite):
    """The library's test compares all twenty."""
    model = small_tflite(**of_model)
    sampler = LiteRTSampler(model)
    for prompt, options in list(prompts())[3::4]:
        answer = write(program, model, prompt, **options)
        assert answer.stdout.decode() == prompt + sampler.sample(prompt, **options) + "\n"
        unknown = int((sampler.vocabulary.encode(prompt) == sampler.vocabulary.unk_id).sum())
        assert (b" of the prompt are read as " in answer.stderr) == bool(unknown)


def test_settings_stored_in_the_file_are_the_default(program, small_tflite):
    model = small_tflite(sampling={"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.01})
    expected = LiteRTSampler(model).sample("To be", max_tokens=40, seed=5)
    assert write(program, model, "To be", max_tokens=40, seed=5).stdout.decode() == "To be" + expected + "\n"


def test_it_is_clean_under_valgrind(program, small_tflite, tmp_path):
    need_program("valgrind", "valgrind")
    tool = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=9"]
    (tmp_path / "text").write_text(TEXT[:150])
    learn = [f"--learn={tmp_path / 'text'}", f"--save_learned={tmp_path / 'learned'}"]
    for flags in (learn, [f"--learned={tmp_path / 'learned'}"]):
        flags = ["--prompt=To be", "--max_tokens=5", "--seed=1", *flags]
        answer = subprocess.run([*tool, program, small_tflite(learn=True), *flags], capture_output=True, check=False)
        assert answer.returncode == 0, answer.stderr.decode()


def test_a_text_file_is_learned_and_what_was_learned_is_loaded(program, small_tflite, tmp_path):
    model = small_tflite(learn=True)
    sampler = LiteRTSampler(model)
    (tmp_path / "text").write_text(TEXT)
    learn, save = f"--learn={tmp_path / 'text'}", f"--save_learned={tmp_path / 'learned'}"
    answer = subprocess.run([program, model, learn, save], capture_output=True, text=True, check=True)
    report = sampler.learn(TEXT)
    assert answer.stdout == ""
    assert answer.stderr == (
        f"keras_seq: learned from {report.tokens} tokens: {report.nats_per_token:.3f} nats per token while learning, "
        f"{report.model_nats_per_token:.3f} without; weight {report.weight:.2f}\n"
    )
    sampler.save_learned(tmp_path / "python")
    assert (tmp_path / "learned").read_bytes() == (tmp_path / "python").read_bytes()
    expected = "To be" + sampler.sample("To be", seed=1) + "\n"
    for flags in ([learn], [f"--learned={tmp_path / 'learned'}"]):
        command = [program, model, "--prompt=To be", "--seed=1", *flags]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert answer.stdout == expected
    (tmp_path / "more").write_text(TEXT[:40])
    flags = [f"--learned={tmp_path / 'learned'}", f"--learn={tmp_path / 'more'}", save]
    subprocess.run([program, model, *flags], capture_output=True, check=True)
    sampler.learn(TEXT[:40])
    sampler.save_learned(tmp_path / "python")
    assert (tmp_path / "learned").read_bytes() == (tmp_path / "python").read_bytes()


def test_what_cannot_be_learned_or_loaded_is_refused_in_one_sentence(program, small_tflite, model, tmp_path):
    files = {"text": b"to be", "omega": "to Ω".encode(), "zero": b"to\0be", "empty": b"", "latin": b"to\xff"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for path, flag, sentence in (
        (
            model,
            f"--learn={tmp_path / 'text'}",
            f"{model} must have a signature learn, which export_tflite(..., learn=True)",
        ),
        (model, f"--save_learned={tmp_path / 'new'}", f"{model} must have a signature learn"),
        (model, f"--learned={tmp_path / 'text'}", f"{model} must have a signature learn"),
        (None, f"--learn={tmp_path / 'omega'}", "--learn must hold only characters of the vocabulary. Received: 'Ω'"),
        (None, f"--learn={tmp_path / 'zero'}", "--learn must not contain the character U+0000"),
        (None, f"--learn={tmp_path / 'empty'}", "--learn must be a text that is not empty"),
        (None, f"--learn={tmp_path / 'latin'}", "--learn must be UTF-8; byte 2 is not"),
        (None, f"--learn={tmp_path / 'none'}", f"{tmp_path / 'none'} cannot be read: No such file or directory"),
        (None, f"--learned={tmp_path / 'none'}", f"{tmp_path / 'none'} cannot be read: No such file or directory"),
        (None, f"--learned={tmp_path / 'text'}", f"{tmp_path / 'text'} is not a file of learned weights"),
        (
            None,
            f"--save_learned={tmp_path}",
            f"{tmp_path} cannot be written: it is a directory or a device; name a file",
        ),
        (None, "--learn=", "--learn needs the name of a file"),
        (None, "--save_learned", "--save_learned needs a value after =, such as --prompt=TEXT"),
    ):
        command = [program, path or small_tflite(learn=True), "--prompt=To", flag]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stdout) == (1, ""), flag
        assert answer.stderr.startswith(f"keras_seq: {sentence}"), flag
        assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_text_without_a_seed_can_be_repeated_with_the_printed_one(program, model):
    first = write(program, model, "To be", max_tokens=30)
    seed = re.fullmatch(r"keras_seq: --seed=(\d+)\n", first.stderr.decode()).group(1)
    assert write(program, model, "To be", max_tokens=30, seed=seed).stdout == first.stdout
    assert write(program, model, "To be", max_tokens=30).stdout != first.stdout


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--prompt=Ω"], "--prompt must hold only characters of the vocabulary. Received: 'Ω' (U+03A9)"),
        ([b"--prompt=ab\xff"], "--prompt must be UTF-8; byte 2 is not"),
        (["--temperature=nan"], "--temperature must be a number from 0 to 1e+06. Received: nan"),
        (["--temperature=-1"], "--temperature must be a number from 0"),
        (["--top_k=1.5"], "--top_k must be an integer from 0"),
        (["--top_p=0"], "--top_p must be a number"),
        (["--max_tokens=0"], "--max_tokens must be an integer from 1"),
        (["--max_tokens="], "--max_tokens must be an integer from 1"),
        (["--seed=18446744073709551616"], "--seed must be a 64-bit integer"),
        (["--seed=-9223372036854775809"], "--seed must be a 64-bit integer"),
        (["--heat=1"], "there is no flag --heat=1; --help lists them"),
        (["--prompt", "To"], "--prompt needs a value after =, such as --prompt=TEXT"),
        (["more.tflite"], "only flags may follow the file. Received: more.tflite"),
        (["--stop"], "--stop needs a value after =, such as --prompt=TEXT"),
        (["--stop="], "--stop must be a text of at least one character"),
        (["--"], "there is no flag --; --help lists them"),
        (["-x"], "there is no flag -x; --help lists them"),
        (["-", "--prompt=To"], "give the prompt with --prompt or with -, not both"),
    ],
)
def test_a_wrong_flag_is_refused_in_one_sentence(program, model, flags, sentence):
    answer = subprocess.run([program, model, *flags], capture_output=True)
    assert answer.returncode == 1
    assert answer.stdout == b""
    assert answer.stderr.decode().startswith(f"keras_seq: {sentence}")


def test_the_prompt_can_come_from_standard_input(program, model):
    flags = ["--seed=1", "--max_tokens=30"]
    for prompt in (b"", b"To be", b"To be, or not to be" * 3000):
        answer = subprocess.run([program, model, "-", *flags], input=prompt, capture_output=True, check=True)
        text = LiteRTSampler(model).sample(prompt.decode(), seed=1, max_tokens=30)
        assert answer.stdout.decode() == prompt.decode() + text + "\n"
    for prompt, sentence in (
        (b"To\0be", b"--prompt must not contain the character U+0000"),
        (b"To\xff", b"--prompt must be UTF-8; byte 2 is not"),
    ):
        answer = subprocess.run([program, model, "-", *flags], input=prompt, capture_output=True, check=False)
        assert (answer.returncode, answer.stdout, answer.stderr) == (1, b"", b"keras_seq: " + sentence + b"\n")


def test_the_text_ends_before_a_stop_string(program, model):
    expected = LiteRTSampler(model).sample("To be", seed=1, stop=["he", "to"])
    answer = subprocess.run(
        [program, model, "--prompt=To be", "--seed=1", "--stop=he", "--stop=to"], capture_output=True, check=True
    )
    assert answer.stdout.decode() == "To be" + expected + "\n"


def test_the_version_is_printed(program):
    for arguments in (["--version"], ["a.tflite", "--version"]):
        answer = subprocess.run([program, *arguments], capture_output=True, check=True)
        assert answer.stdout.decode() == f"keras_seq {ks.__version__}\n"


def test_a_full_disk_is_reported_in_one_sentence(program, model):
    with open("/dev/full", "wb") as full:
        answer = subprocess.run([program, model, "--seed=1"], stdout=full, stderr=subprocess.PIPE)
    assert (answer.returncode, answer.stderr) == (
        1,
        b"keras_seq: the text cannot be written: No space left on device\n",
    )


def test_without_litert_the_makefile_says_what_to_install(native_sources, tmp_path):
    native_sources(tmp_path)
    done = subprocess.run(["make", "-n", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "false has no ai_edge_litert: pip install ai-edge-litert" in done.stderr


def test_an_unusable_file_is_refused_in_one_sentence(program, model, small_tflite, tmp_path):
    whole = model.read_bytes()
    files = {
        "missing": (None, "cannot be read: No such file"),
        "text": (b"to be", "is not a .tflite file"),
        "changed": (
            bytes([*whole[:300], whole[300] ^ 1, *whole[301:]]),
            "has a damaged model: the SHA-256 differs",
        ),
        "offset": (with_directory_at(whole, 20), "has no complete bundle at its end"),
        "cut": (whole[:-40], "has no complete bundle at its end"),
        "bare": (whole[: whole.rindex(b"PK\3\4")], "has no complete bundle at its end"),
        "tokens": (
            rebundled(model, tmp_path / "tokens", vocabulary=b"a\n" * 600_000).read_bytes(),
            "has a damaged vocabulary: it has 600000 tokens",
        ),
        "huge": (
            rebundled(model, tmp_path / "huge", vocabulary=b"\n" * (17 << 20)).read_bytes(),
            "has a vocab.txt of 17825792 bytes, more than the 16777216 allowed",
        ),
        "format": (
            rebundled(model, tmp_path / "format", config={"format": 3}).read_bytes(),
            "must have the bundle format 2",
        ),
        "states": (
            without_output(model, tmp_path / "states", "prefill", "state_1").read_bytes(),
            "has no input or output state_1",
        ),
        "token": (
            without_output(model, tmp_path / "token", "sample", "next_token").read_bytes(),
            "has no input or output next_token",
        ),
        "inside": (
            small_tflite(state="internal").read_bytes(),
            "export it with --state=explicit",
        ),
        "rows": (
            small_tflite(batch=2).read_bytes(),
            "takes 2 rows at once: export it without --batch",
        ),
        "integers": (
            small_tflite(quantization="integer").read_bytes(),
            "has integers only: run it with export/native/micro, TensorFlow Lite for Microcontrollers or LiteRTSampler, or "
            "export it with --quantization=int8 for this library",
        ),
    }
    for name, (content, words) in files.items():
        path = tmp_path / f"{name}.file"
        if content is not None:
            path.write_bytes(content)
        answer = write(program, path, "To be", seed=1)
        assert (answer.returncode, answer.stdout) == (1, b""), name
        assert words in answer.stderr.decode(), name
        assert answer.stderr.count(b"\n") == 1


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_bundle_is_read_or_refused_in_one_sentence(parts, model, tmp_path_factory, data):
    """The reader of the bundle, under the address sanitizer."""
    whole = model.read_bytes()
    start = whole.index(b"PK\3\4")
    damaged = bytearray(whole)
    for position in data.draw(st.lists(st.integers(start, len(whole) - 1), min_size=1, max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "damaged.tflite"
    path.write_bytes(damaged[: data.draw(st.integers(start, len(whole)) | st.just(len(whole)))])
    [answer] = read_bundles(parts, path)
    assert answer[0] in f"0{BAD_FILE}"


def encode(parts, vocabulary, texts):
    text = b"".join(text.encode() + b"\0" for text in texts)
    answer = subprocess.run([parts, "tokens", vocabulary], input=text, capture_output=True, check=True)
    return [[int(token) for token in line.split()] for line in answer.stdout.decode().split("\n")[:-1]]


def test_the_random_stream_gives_the_vectors(parts):
    pairs = "".join(f"{seed} {position}\n" for seed, position, _ in VECTORS["random"])
    answer = subprocess.run([parts, "random"], input=pairs, text=True, capture_output=True, check=True)
    for line, (seed, position, word) in zip(answer.stdout.splitlines(), VECTORS["random"], strict=True):
        found, number = line.split()
        assert found == word
        assert np.float32(number) == uniform(int(seed), position)


def test_words_are_split_as_in_the_vectors(parts, tmp_path):
    words = sorted({token for _, tokens in VECTORS["words"] for token in tokens})
    model = file_with(ks.Vocabulary([*RESERVED["word"], *words]), tmp_path)
    cases = [(text, tokens) for text, tokens in VECTORS["words"] if "\0" not in text]
    found = encode(parts, model, [text for text, _ in cases])
    assert [[words[token - 4] for token in ids] for ids in found] == [tokens for _, tokens in cases]


@pytest.mark.parametrize("case", VECTORS["vocabularies"], ids=lambda case: case["level"])
def test_given_tokens_encode_as_in_the_vectors(case, parts, tmp_path):
    model = file_with(ks.Vocabulary(case["tokens"]), tmp_path)
    if not {"<s>", "<eos>"} <= set(case["tokens"]):
        return
    assert encode(parts, model, [text for text, _ in case["texts"]]) == [ids for _, ids in case["texts"]]
    for text in case["refused"]:
        asked = text.encode() + b"\0"
        answer = subprocess.run([parts, "tokens", model], input=asked, capture_output=True, check=False)
        assert answer.stderr.decode().startswith("keras_seq: --prompt must hold only")


def file_with(vocabulary, folder):
    """Returns the vocabulary's file."""
    vocabulary.save(folder / "vocab.txt")
    return folder / "vocab.txt"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
TRICKY = st.text(
    st.sampled_from("ab '’-_7.\\n\n\r\t5c<>\ufeff\u00a0\u2028é\u0301漢字かな한🙂𝄞\U00020000\U0010ffff"), min_size=1
)


@pytest.mark.parametrize("level", ["char", "word"])
@settings(max_examples=40)
@given(texts=st.lists(ANY_TEXT | TRICKY, min_size=1, max_size=8), others=st.lists(TRICKY, max_size=4))
def test_every_text_is_encoded_as_in_python(level, parts, tmp_path_factory, texts, others):
    vocabulary = ks.Vocabulary.from_text("".join(texts), level=level)
    model = file_with(vocabulary, tmp_path_factory.mktemp("vocabulary"))
    asked = texts + (others if level == "word" else [])
    assert encode(parts, model, asked) == [vocabulary.encode(text).tolist() for text in asked]


def test_the_time_per_token_is_reported(program, model):
    flags = ["--seed=1", "--max_tokens=50", "--time"]
    answer = subprocess.run([program, model, *flags], capture_output=True, check=True)
    report = r"keras_seq: \d+ tokens, [\d.]+ us per token, of which [\d.]+ us in the model \(ratio [\d.]+\)\n"
    assert re.fullmatch(report, answer.stderr.decode())


@pytest.mark.parametrize("level", ["char", "whitespace"])
@settings(max_examples=40)
@given(texts=st.lists(ANY_TEXT | TRICKY, min_size=1, max_size=8), others=st.lists(TRICKY, max_size=4))
def test_a_vocabulary_made_elsewhere_is_that_of_python(level, parts, tmp_path_factory, texts, others):
    vocabulary = own_vocabulary(texts, level)
    model = file_with(vocabulary, tmp_path_factory.mktemp("vocabulary"))
    asked = texts + others
    assert encode(parts, model, asked) == [vocabulary.encode(text).tolist() for text in asked]


def test_a_model_with_an_encoder_is_refused(program, tmp_path):
    export_tflite(translation(), VOCABULARY, tmp_path / "a.tflite")
    answer = write(program, tmp_path / "a.tflite", "to")
    assert (answer.returncode, answer.stdout) == (1, b"")
    assert answer.stderr.decode().endswith("begins with the states of an encoder, which this library cannot run\n")


# ---- the bundle, the vocabulary and JSON ----


def read_bundles(parts, *files):
    """Returns what the reader says of each file."""
    answer = subprocess.run([parts, "bundle", *files], capture_output=True, check=True)
    return answer.stdout.decode().splitlines()


def test_the_bundle_is_read(parts, model):
    bundle = read_bundle(model)
    assert read_bundles(parts, model) == [f"0 {len(bundle.model)} {len(bundle.vocabulary.to_bytes())}"]


def with_directory_at(whole, beyond):
    """Returns the file with a wrong offset of the zip's directory: entries seem to start before the first byte."""
    directory = whole.index(b"PK\1\2")
    changed = bytearray(whole)
    changed[-6:-2] = (directory + beyond).to_bytes(4, "little")
    entry = directory
    while changed[entry : entry + 4] == b"PK\1\2":
        changed[entry + 42 : entry + 46] = bytes(4)
        entry += 46 + int.from_bytes(changed[entry + 28 : entry + 30], "little")
    return bytes(changed)


def test_damaged_bundles_are_refused(parts, model, tmp_path):
    names = []
    offset = "entries before the file", with_directory_at(model.read_bytes(), 20)
    for number, (name, content) in enumerate([*damaged_bundles(model), offset]):
        (tmp_path / f"{number}.tflite").write_bytes(content)
        names.append(name)
    answers = read_bundles(parts, *(tmp_path / f"{number}.tflite" for number in range(len(names))))
    accepted = [name for name, answer in zip(names, answers, strict=True) if not answer.startswith(f"{BAD_FILE} ")]
    assert not accepted


# What Python refuses in these is not read here; integers have any number of digits.
UNREAD = re.compile("`(inputs|outputs|delays|at_once|ranges)` in config.json must be|a number has too many digits")


def can_run(path):
    """Whether Python accepts a bundle, of those that the library can run."""
    try:
        config = read_bundle(path).config
    except BundleError as error:
        return bool(UNREAD.search(str(error)))
    return (config["state"], config["batch"]) == ("explicit", 1) and config["sampling"] != {"top_p": 7}


def test_changed_bundles_are_accepted_or_refused_as_by_python(parts, model, tmp_path):
    files = changed_bundles(model, tmp_path)
    for path, answer in zip(files, read_bundles(parts, *files), strict=True):
        assert can_run(path) == answer.startswith("0 "), (path.name, answer)


def test_names_and_strings_may_have_escapes(parts, model, tmp_path):
    config = json.dumps(read_bundle(model).config)
    for number, content in enumerate((escaped_strings(config), config)):
        path = rebundled(model, tmp_path / f"{number}.tflite", config=content.encode())
        assert can_run(path)
        assert read_bundles(parts, path)[0].startswith("0 ")


def escaped_strings(text):
    """Returns JSON with an escape instead of each character of a string."""
    escape = lambda string: "".join(f"\\u{ord(letter):04X}" for letter in string[1])  # noqa: E731
    return re.sub(r'"([^"\\]*)"', lambda string: f'"{escape(string)}"', text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": None}, "state must be"),
        ({"batch": 1.5}, "batch must be a positive integer"),
        ({"sampling": None}, "sampling must be an object"),
        ({"sampling": {"temperature": -1}}, "temperature must be from 0 to 1e6"),
        ({"sampling": {"top_p": 0}}, "top_p must be above 0"),
        ({"sampling": {"top_k": 1.5}}, "top_k must be an integer from 0"),
        ({"sampling": {"repetition_penalty": 1.1}}, "was exported with a repetition_penalty"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(parts, model, tmp_path, changes, words):
    [answer] = read_bundles(parts, rebundled(model, tmp_path / "a.tflite", config=changes))
    assert words in answer


def test_a_card_may_not_be_nested_deeply(parts, model, tmp_path):
    for depth, is_read in ((20, True), (25, False)):
        card = b'{"a":' * depth + b"1" + b"}" * depth
        [answer] = read_bundles(parts, rebundled(model, tmp_path / f"{depth}", card=card))
        assert answer.startswith("0 ") == is_read


def test_a_vocabulary_of_another_size_is_refused(program, model, tmp_path):
    tokens = read_bundle(model).vocabulary.tokens
    path = rebundled(model, tmp_path / "a", vocabulary=ks.Vocabulary(tokens[:-1]).to_bytes())
    answer = write(program, path, "To be")
    assert answer.returncode == 1
    assert answer.stderr.decode().endswith(f"returns {len(tokens)} logits for {len(tokens) - 1} tokens\n")


@pytest.mark.parametrize(
    "tokens",
    [
        b"<pad>\n<s>\n<eos>\na\na\n",
        b"<pad>\n<s>\n<eos>\nab\n",
        b"<pad>\n<s>\n<eos>\n\n",
        b"<pad>\n<unk>\n<s>\n<eos>\na b\n",
        b"<s>\n<eos>\na b\nc\n",
        b"<pad>\n<s>\n<eos>\n\xff\n",
        b"<pad>\n<s>\n<eos>\na\r\n",
        b"<pad>\n<s>\n<eos>\n\\q\n",
        b"<pad>\n<s>\n<eos>\na",
        b"\xef\xbb\xbf<pad>\n<s>\n<eos>\na\n",
        b"",
    ],
    ids=repr,
)
def test_a_vocabulary_that_python_refuses_is_refused(parts, tmp_path, tokens):
    with pytest.raises(VocabularyError):
        ks.Vocabulary.from_bytes(tokens)
    (tmp_path / "vocab.txt").write_bytes(tokens)
    answer = subprocess.run([parts, "tokens", tmp_path / "vocab.txt"], input=b"", capture_output=True)
    assert answer.returncode == 1
    assert "has a damaged vocabulary: " in answer.stderr.decode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("a"), inner),
    max_leaves=6,
)
# What hypothesis draws from the characters of JSON is sometimes JSON, and mostly nearly so.
NEARLY_JSON = st.text(st.sampled_from('{}[]":,.-+0123456789eEtrufalsn\\/ a\n\u00e9')).map(
    lambda text: '{"a": ' + text + "}"
)


@settings(max_examples=20)
@given(
    texts=st.lists(
        st.dictionaries(st.text() | st.just("a"), JSON).map(json.dumps) | JSON.map(json.dumps) | NEARLY_JSON,
        min_size=10,
    )
)
def test_json_is_read_as_in_python(parts, texts):
    given = b"".join(text.encode() + b"\0" for text in texts)
    answers = subprocess.run([parts, "json"], input=given, capture_output=True, check=True).stdout.splitlines()
    for text, answer in zip(texts, answers, strict=True):
        found = answer.split()
        value = value_of(text)
        assert found[0] == (b"1" if isinstance(value, dict) else b"0")
        number = value.get("a") if isinstance(value, dict) else None
        if isinstance(number, int | float) and not isinstance(number, bool):
            assert float(found[1]) == pytest.approx(number, rel=1e-14, abs=1e-300)
        if type(number) is int and abs(number) < 10**16:
            assert int(found[2]) == number


def value_of(text):
    """Returns what Python reads; None if it is not JSON, of which NaN is not a part, or has a number that is too large."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except ValueError:
        return None


def _finite(text):
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(constant):
    raise ValueError(constant)
