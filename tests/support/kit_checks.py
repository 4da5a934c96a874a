"""What every kit is tested for, whatever its language: `kit` is its `KitProcess`."""

import json
import re

import numpy as np
import paths
import pytest
from bundles import damaged_bundles, rebundled
from hamlet import TEXT, prompts
from unicode_texts import own_vocabulary

import keras_seq as ks
from keras_seq.data import tokens
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.generation.threefry import uniform
from keras_seq_export import LiteRTSampler
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle

VECTORS = json.loads(paths.VECTORS.read_text())
MODELS = [
    pytest.param({}, id="char"),
    pytest.param({"level": "word", "starting": True}, id="word"),
    pytest.param({"level": "whitespace"}, id="whitespace"),
    pytest.param({"quantization": "int8", "by_line": True}, id="by_line"),
    pytest.param({"learn": True}, id="learn"),  # The kits do not learn; they run such a file as it is.
]


def require_random_stream(kit):
    """The kit's random numbers are those of the vectors and of Python."""
    found = kit.ask("random", pairs=[[seed, position] for seed, position, _ in VECTORS["random"]])
    for (word, number), (seed, position, expected) in zip(found, VECTORS["random"], strict=True):
        assert word == expected
        assert number == float(uniform(int(seed), position))


def require_classes(kit):
    """Every character has the class that it has in Python."""
    points = [point for point in range(0x40010) if not 0xD800 <= point < 0xE000]  # All others are of words.
    text, expected = "".join(map(chr, points)), np.zeros(len(points), int)
    for number, ranges in enumerate((tokens.SPACE, tokens.PUNCTUATION, tokens.SINGLE), start=1):
        for found in re.finditer(f"[{ranges}]+", text):
            expected[found.start() : found.end()] = number
    assert np.array_equal(np.array(kit.ask("classes", count=0x40010))[points], expected)


def require_vectors(kit):
    """The kit splits, encodes and decodes as the vectors say."""
    assert kit.ask("words", texts=[text for text, _ in VECTORS["words"]]) == [tokens for _, tokens in VECTORS["words"]]
    for case in VECTORS["vocabularies"]:
        file = ks.Vocabulary(case["tokens"]).to_bytes().hex()
        found = kit.ask("encode", file=file, texts=[text for text, _ in case["texts"]])
        assert [ids for ids, *_ in found] == [ids for _, ids in case["texts"]]
        assert all(level == case["level"] for *_, level in found)
        for text in case["refused"]:
            (message,) = kit.ask("encode", file=file, texts=[text])
            assert message.startswith("the text must hold only "), message
        continued = [[before, ids] for before, ids, _ in case["continuations"]]
        assert kit.ask("decode", file=file, continuations=continued) == [text for *_, text in case["continuations"]]
    vocabulary = ks.Vocabulary(["[UNK]", "<s>", "the", "<eos>", "cat"])
    several = [
        [1, 2, 4],
        [1, 3, 1, 0],
        [2, 1, 4],
        [3],
        [1],
    ]  # a space goes before no first word, whatever is silent before it
    found = kit.ask("decode", file=vocabulary.to_bytes().hex(), continuations=[["", ids] for ids in several])
    assert found == [vocabulary.decode(ids) for ids in several]
    assert found[0] == "the cat"


def require_tokens(kit, level, texts, others):
    """The kit encodes texts as Python does; refuses those that Python refuses."""
    vocabulary = (
        own_vocabulary(texts, level) if level == "whitespace" else ks.Vocabulary.from_text("".join(texts), level)
    )
    asked = [*texts, *others]
    for text, found in zip(asked, kit.ask("encode", file=vocabulary.to_bytes().hex(), texts=asked), strict=True):
        try:
            ids = vocabulary.encode(text)
        except ValueError:
            assert isinstance(found, str), (text, found)
        else:
            assert found == [ids.tolist(), vocabulary.decode(ids), vocabulary.level], text


def is_accepted(path):
    """Whether Python reads the bundle of a file."""
    try:
        read_bundle(path)
    except BundleError:
        return False
    return True


def require_same_bundles(kit, model, folder):
    """The kit accepts the files that Python accepts; its refusals are short sentences."""
    files = [model, *randomly_damaged(model.read_bytes(), folder, 120), *changed_bundles(model, folder)]
    for number, (_, content) in enumerate(damaged_bundles(model)):
        files.append(folder / f"refused-{number}.tflite")
        files[-1].write_bytes(content)
    answers = kit.ask("bundle", paths=list(map(str, files)))
    for path, answer in zip(files, answers, strict=True):
        assert is_accepted(path) == isinstance(answer, int), (path.name, answer)
        assert isinstance(answer, int) or 10 < len(answer) < 300


def randomly_damaged(whole, folder, count):
    """Writes copies of a file whose zip is damaged; returns their paths."""
    start, random, files = whole.index(b"PK\3\4"), np.random.default_rng(0), []
    for number in range(count):
        damaged = bytearray(whole[: random.integers(start, len(whole) + 1)] if number % 8 == 0 else whole)
        places = random.integers(start, len(whole), 1 + number % 3)
        for position in places:
            damaged[min(position, len(damaged) - 1)] = random.integers(256)
        files.append(folder / f"damaged-{number}.tflite")
        files[-1].write_bytes(damaged)
    return files


def changed_bundles(model, folder):
    """Writes copies of a file with other parts; returns their paths."""
    first, whole, size = b"<pad>\n<s>\n<eos>\n", model.read_bytes(), len(read_bundle(model).model)
    words = [first, first + b"a\n", first + b"ab\n", first + b"a\na\n", b"", b"a", first + b"\\q\n", first + b"\xff\n"]
    words += [first + b"\\n\n\\r\n\\x5c\n", first + b"\\\\nr\n", first + b"a\r\n", b"\xef\xbb\xbf" + first + b"a\n"]
    words += [b"<pad>\n<unk>\n<s>\n<eos>\n", b"<pad>\n<unk>\n<s>\n<eos>\n a'b\n", b"<pad>\n<unk>\n<s>\n<eos>\na'\n"]
    words += [b"[UNK]\n<s>\n", b"[UNK]\n<s>\nthe\n<eos>\n", b"the\na b\n", first + b"a\n" * 600_000]
    configs = [b"null", b"[]", b"{}", b"[" * 9000, b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", b"\xff", b"\xef\xbb\xbf{}"]
    configs += [{"format": value} for value in (1, 2, 2.0, True, "2", None)]
    configs += [
        {"model_bytes": value} for value in (0, 8, 11, -5, size - 1, size + 1, float(size), str(size), True, 2**40)
    ]
    configs += [{"batch": value} for value in (0, 2, 1.0, None, True)] + [
        {"state": value} for value in ("internal", "x", 1)
    ]
    configs += [{"sampling": value} for value in ({}, [], None, {"top_p": 7})]
    configs += [{"model_sha256": "0"}, {"vocabulary_sha256": None}, {"vocabulary_sha256": "x"}, {"more": float("nan")}]
    configs += [{"more": [value]} for value in (float("inf"), -float("inf"), 2**70, "\ud800", "NaN")]
    cards = [
        b"[]",
        b"null",
        b"{",
        b"{} {}",
        b'{"a": 1e99, "b": -0.0, "\\u00e9": "\\ud800"}',
        b'{"a": 1e999}',
        b'{"a": [{"b": -1e999}]}',
        b'{"a": 01}',
        b"\xff",
        b"",
    ]
    cards += [b'{"a": ' + b"9" * 4000 + b"}", b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}", b" \t\r\n{}\n"]
    changes = (
        [{"vocabulary": one} for one in words] + [{"config": one} for one in configs] + [{"card": one} for one in cards]
    )
    changes += [{"model": whole[:size][:length]} for length in (8, 11, 12, 40)]
    changes += [
        {"model": offset.to_bytes(4, "little") + whole[4:size]} for offset in (0, 7, 8, size - 4, size - 3, 2**32 - 1)
    ]
    return [rebundled(model, folder / f"changed-{number}.tflite", **change) for number, change in enumerate(changes)]


def require_texts(kit, model, count=20):
    """The kit writes the texts of Python, to the same finish reason and the same tokens."""
    kit.open(model)
    sampler = LiteRTSampler(model)
    for number, (prompt, options) in enumerate(prompts()):
        if number >= count:
            break
        options = options | ({"stop": [TEXT[number + 3 : number + 5], "e "]} if number % 4 == 1 else {})
        expected, found = sampler.sample(prompt, **options), kit.ask("write", prompt=prompt, **options)
        assert found["text"] == expected
        assert found["pieces"] == list(sampler.generate(prompt, **options))
        assert found["tokens"] == expected.token_ids
        assert found["finish_reason"] == expected.finish_reason
        scored = sampler.sample(prompt, **options, logprobs=True)
        np.testing.assert_allclose(found["log_probabilities"], scored.log_probabilities, rtol=0, atol=2e-5)
    return set(kit.calls)


def require_changes(kit, model):
    """A temperature that is changed between two pieces is used from the next token on, as in Python."""
    kit.open(model)
    generation, pieces = LiteRTSampler(model).generate("To be", max_tokens=60, seed=3), []
    changes = {0: 0.5, 5: 1.5, 40: 0.0, 41: 1.0}
    for _ in range(61):
        if len(pieces) in changes:
            generation.change(temperature=changes[len(pieces)])
        pieces += [piece for piece in [next(generation, None)] if piece is not None]
    found = kit.ask(
        "write", prompt="To be", max_tokens=60, seed=3, changes={str(at): value for at, value in changes.items()}
    )
    assert found["pieces"] == pieces
    kit.calls.clear()
    kit.ask("write", prompt="To be", max_tokens=60, seed=3, stop=["e"])  # and then changes the temperature
    assert kit.calls == ["prefill", "write"]


SAMPLING = [
    *(
        {"temperature": value}
        for value in (0, 0.5, 1e6, -0.0, 1e-300, 1e6 + 1e-9, -1e-300, 2**80, True, None, "1", [1])
    ),
    *({"top_k": value} for value in (0, 3, 2**31, 2**63, 10**400, -1, -(2**70), 3.0, 0.5, True, None, "3")),
    *({"top_p": value} for value in (1, 0.5, 1e-300, 1 + 1e-9, 0, -0.5, False, None, "1")),
    *({"min_p": value} for value in (0, 1, 0.5, 1 + 1e-9, -1e-300, True, None, "0")),
    *({"repetition_penalty": value} for value in (1, 1.0, True, None, "1", 0, -1)),
    *({"allow_unk": value} for value in (True, False, 0, 1, None, "true")),
    *({"bias": value} for value in ({}, {"e": 2}, {"e": -1e30}, {"e": 1e31}, {"e": None}, {"e": True}, {"e": 10**400})),
    *({"bias": value} for value in ({"?!": 1}, {"<pad>": 1}, {"<s>": 0}, {"<eos>": -3}, [], None, 1)),
    *({"top_k": 5, name: value} for name, value in (("seed", 1), ("stop", []), ("", None), ("Top_k", 1))),
]


def require_same_sampling(kit, model, folder):
    """The kit accepts the stored settings that Python accepts."""
    vocabulary = read_bundle(model).vocabulary
    for number, sampling in enumerate(SAMPLING):
        path = rebundled(model, folder / f"sampling-{number}.tflite", {"sampling": sampling})
        by_python = succeeds(lambda values=sampling: logit_bias(vocabulary, SamplingSettings(**values)))
        assert by_python == succeeds(lambda file=path: kit.open(file)), sampling


def succeeds(call):
    """Whether a call raises neither a ValueError nor, for the name of an argument, a TypeError."""
    try:
        call()
    except (TypeError, ValueError):
        return False
    return True


def require_scores(kit, model):
    """The kit's log-probabilities are those of Python."""
    kit.open(model)
    expected = LiteRTSampler(model).score("not to be: that is")
    tokens, found = kit.ask("score", text="not to be: that is")
    assert tokens == expected.token_ids.tolist()
    np.testing.assert_allclose(found, expected.log_probabilities, rtol=1e-12, atol=1e-12)


SUGGESTED = [
    "",
    "T",
    "To",
    "To ",
    "To b",
    "To be",
    "To be,",
    "To be, or",
    "To be, or not t",
    "Whether '",
    "Whether 'tis",
]
SUGGESTED += ["be'", "be''", "b' ", " ", "  ", "\n", "that is\n", ":", "question. ", "th", " th", "no", "mind to suff"]


def require_suggestions(kit, model):
    """The kit suggests what Python does, for a text that grows, too."""
    kit.open(model)
    sampler = LiteRTSampler(model)
    for number, text in enumerate(SUGGESTED):
        found, expected = kit.ask("suggest", text=text, count=1 + number % 7), sampler.suggest(text, 1 + number % 7)
        assert [one[:2] for one in found] == [list(one[:2]) for one in expected], text
        np.testing.assert_allclose([one[2] for one in found], [one[2] for one in expected], rtol=1e-9)
    with pytest.raises(ValueError, match=r"`count` must be from 1 to 100\. Received: 0"):
        kit.ask("suggest", text="", count=0)

    def only_padding(signature, outputs):
        outputs["logits"][0, np.arange(sampler.vocabulary_size) != sampler.vocabulary.pad_id] = -np.inf

    kit.change = only_padding
    assert kit.ask("suggest", text="Wh", count=3) == []


def without_signature(model, path, name):
    """Writes a .tflite again without one of its signatures."""
    parsed = flatbuffer.parse(read_bundle(model).model)
    parsed.signatureDefs = [one for one in parsed.signatureDefs if one.signatureKey != name.encode()]
    return rebundled(model, path, model=flatbuffer.pack(parsed))


def require_failures(kit, model, folder):
    """Without `write`, and where it fails, the text is the same; what cannot be drawn is refused with its position."""
    expected = LiteRTSampler(model).sample("To be", max_tokens=70, seed=5)
    kit.open(without_signature(model, folder / "old.tflite", "write"))
    assert kit.ask("write", prompt="To be", max_tokens=70, seed=5)["text"] == expected
    assert set(kit.calls) == {"prefill", "sample"}
    kit.open(model)
    kit.fail = lambda signature, calls: signature == "write" and calls.count("write") == 2
    assert kit.ask("write", prompt="To be", max_tokens=70, seed=5)["text"] == expected
    assert (kit.calls.count("write"), kit.calls.count("sample")) == (3, 32)
    # After an error the text goes on with the token that failed.
    kit.open(model)
    kit.fail = lambda signature, calls: (
        (signature, calls.count(signature)) in (("write", 2), ("sample", 1), ("sample", 3))
    )
    assert kit.ask("write", prompt="To be", max_tokens=70, seed=5, again=2)["text"] == expected

    def refused(change=None, fail=None):
        kit.open(model)
        kit.change, kit.fail = change, fail
        with pytest.raises(ValueError, match=r"^[a-z`].{9,299}$") as found:
            kit.ask("write", prompt="To be", max_tokens=70, seed=5)
        return str(found.value)

    def not_finite(signature, outputs):
        if signature == "write" and kit.calls.count("write") == 2:
            outputs["log_probabilities"][0, 3] = np.nan
        if signature == "sample" and kit.calls.count("sample") == 4:
            outputs["log_probability"][0] = np.inf

    assert refused(not_finite) == "token 35 cannot be sampled: the model's logits are not finite"

    def no_logits(signature, outputs):
        if signature == "decode":
            outputs["logits"][0, 3] = np.nan

    fails = lambda signature, calls: signature in ("write", "sample")  # noqa: E731
    assert refused(no_logits, fails) == "token 0 cannot be sampled: the model's logits are not finite"
    assert "failed" in refused(fail=fails)
    wrong = {"count": 0, "tokens": 1000}
    for name, value in wrong.items():
        assert refused(
            lambda signature, outputs, n=name, v=value: signature == "write" and outputs[n].fill(v)
        ).startswith("the model is damaged: ")
    for options, words in (
        (
            {"prompt": "\u03a9"},
            r"the text must hold only characters of the vocabulary\. Received: '\u03a9' \(U\+03A9\)",
        ),
        ({"max_tokens": 0}, "`maxTokens` must be at least 1"),
        ({"temperature": -0.5}, "`temperature` must be from 0"),
        ({"top_p": 0}, "`topP` must be above 0"),
        ({"min_p": 1.5}, "`minP` must be from 0"),
        ({"top_k": -1}, "`topK` must be 0"),
        ({"stop": [""]}, "`stop` must have strings"),
    ):
        with pytest.raises(ValueError, match=words):
            kit.ask("write", **{"prompt": "To", **options})
    _require_refused_models(kit, model, folder)


def _require_refused_models(kit, model, folder):
    """A model that the kit cannot run is refused when it is opened."""
    other = ks.Vocabulary(read_bundle(model).vocabulary.tokens[:-1]).to_bytes()
    changes = {
        "explicit states": {"config": {"state": "internal"}},
        "one row": {"config": {"batch": 2}},
        "the file has integers only, for .*: export it with --quantization=int8": {
            "config": {"quantization": "integer"}
        },
        "no repetition_penalty": {"config": {"sampling": {"repetition_penalty": 1.5}}},
        "`topP` must be": {"config": {"sampling": {"top_p": 7}}},
        "damaged sampling defaults": {"config": {"sampling": {"bias": {"?!": 1}}}},
        "inputs and outputs of decode for": {"vocabulary": other},
    }
    for number, (words, change) in enumerate(changes.items()):
        with pytest.raises(ValueError, match=words):
            kit.open(rebundled(model, folder / f"other-{number}.tflite", **change))
    with pytest.raises(ValueError, match="must have the signature sample"):
        kit.open(without_signature(model, folder / "none.tflite", "sample"))
