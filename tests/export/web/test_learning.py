"""What learns in export/web without a browser, in Node: the file, the text as segments, the loop, and who may read meanwhile."""

import functools
import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node import in_node_with

import keras_seq as ks
from keras_seq.generation.score import segments

in_node = functools.partial(in_node_with, "web_learning.mjs")

# ---- the learned file ----

HASH = hashlib.sha256(b"a model").hexdigest()
SIZE, FEATURES = 5, 3
MODEL = {"hash": HASH, "size": SIZE, "features": FEATURES}


def learned_file(
    magic=b"KSLEARN1", model=HASH, shape=(SIZE, FEATURES), tokens=123, shares=(-1, -2, -0.5), weights=None, words="\n"
):
    """The file as docs/formats.md describes it, from the standard library."""
    weights = [index / 8 for index in range(shape[0] * shape[1])] if weights is None else weights
    words = words if isinstance(words, bytes) else words.encode()
    content = magic + bytes.fromhex(model) + struct.pack("<IIQ3f", *shape, tokens, *shares)
    content += struct.pack(f"<{len(weights)}f", *weights) + struct.pack("<I", len(words)) + words
    return content + hashlib.sha256(content).digest()


def read_files(*files):
    return in_node("files", [MODEL, [file.hex() for file in files]])


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=15, max_size=15),
            st.lists(st.floats(-100, 0, width=32), min_size=3, max_size=3),
            st.integers(0, 2**53),
            st.sampled_from(["\n", "3 to\n1 b\u00e9\n\n2 0 1\n1 1 1\n"]),
        ),
        min_size=5,
        max_size=20,
    )
)
def test_a_learned_file_is_read_and_written_byte_for_byte(cases):
    names = ("weights", "shares", "tokens", "words")
    files = [learned_file(**dict(zip(names, case, strict=True))) for case in cases]
    for file, found, (weights, shares, tokens, words) in zip(files, read_files(*files), cases, strict=True):
        assert list(map(float, found["weights"])) == weights  # JSON of JavaScript has large numbers as integers.
        assert found["logShares"] == shares
        assert (found["tokens"], found["words"]) == (tokens, words)
        assert found["again"] == file.hex()


def with_hash(content):
    return content + hashlib.sha256(content).digest()


def damaged_files():
    """Yields the beginning of the sentence that refuses a file, and the file."""
    whole = learned_file()
    no_file = "This file is not a file of learned weights, which begins with KSLEARN1."
    yield no_file, b""
    yield no_file, b"KSLEAR"
    yield no_file, b"TFL3" + whole
    yield (
        "This file must have format 1. Received: 2; update this program, or delete it and learn again.",
        learned_file(b"KSLEARN2"),
    )
    yield "This file must have format 1. Received: nothing; update", b"KSLEARN"
    damaged = "This file is damaged: its SHA-256 differs; delete it and learn again."
    yield damaged, b"KSLEARN1"
    for length in (40, 56, 87, 88, 100, len(whole) - 1):
        yield damaged, whole[:length]
    yield damaged, whole + b"\0"
    for position in (9, 41, 50, 60, 70, len(whole) - 40, len(whole) - 1):
        changed = bytearray(whole)
        changed[position] ^= 1
        yield damaged, bytes(changed)
    other = hashlib.sha256(b"another model").hexdigest()
    yield (
        "This file belongs to another model: use that model, or learn again in another file.",
        learned_file(model=other),
    )
    shape = f"This file is damaged: it must hold {SIZE} x {FEATURES} weights; delete it and learn again."
    for sizes in ((SIZE, FEATURES + 1), (FEATURES, SIZE), (SIZE - 1, FEATURES), (0, 0), (1, SIZE * FEATURES)):
        yield shape, learned_file(shape=sizes)
    yield shape, learned_file(weights=[0.0] * 14)
    yield shape, learned_file(weights=[0.0] * 16)
    yield shape, with_hash(b"KSLEARN1" + bytes.fromhex(HASH) + struct.pack("<II", SIZE, FEATURES) + bytes(8))
    yield shape, with_hash(whole[:-32] + b"x")
    yield shape, with_hash(whole[:-33])
    for value in (np.nan, np.inf, -np.inf):
        yield "This file is damaged: its numbers must be finite", learned_file(weights=[*[0.0] * 14, value])
        yield "This file is damaged: its numbers must be finite", learned_file(shares=(0, value, 0))
    yield "This file is damaged: its own words are not UTF-8", learned_file(words=b"\xff\n")
    for words in ("", "1 a\n", "1 a\n\n1 0 1\n", "2 a b\n\n"):
        yield "This file is damaged: own words, line ", learned_file(words=words)


def test_each_kind_of_damage_is_refused_in_one_sentence():
    sentences, files = zip(*damaged_files(), strict=True)
    for sentence, found in zip(sentences, read_files(*files), strict=True):
        assert isinstance(found, str), sentence
        assert found.startswith(sentence), (sentence, found)
        assert len(found) < 160


# ---- the text ----

CHARACTERS = ks.Vocabulary.from_text("abc ,\u00e9\u2028\U0001f642")
WORDS = ks.Vocabulary.from_text("a b c, a", level="word")
SPLIT = ks.Vocabulary.from_tokens(["", "[UNK]", "a", "b", "<s>", "<eos>"])
LINES = st.text(st.sampled_from("abc ,\r\n\u2028\U0001f642"), max_size=12)


@settings(max_examples=10)
@given(st.lists(st.tuples(st.sampled_from([CHARACTERS, WORDS, SPLIT]), LINES, st.booleans()), min_size=20, max_size=40))
def test_segments_are_those_of_python(cases):
    asked = [[vocabulary.to_bytes().decode(), text, by_line] for vocabulary, text, by_line in cases]
    for (vocabulary, text, by_line), found in zip(cases, in_node("segments", asked), strict=True):
        try:
            expected = [part.tolist() for part in segments(text, vocabulary, by_line=by_line)]
        except ValueError:
            assert found.startswith("The model does not know the character"), (text, found)
            continue
        if any(expected):
            assert found == expected, text
        else:
            assert found == f"text must be a text that is not empty. Received: {json.dumps(text, ensure_ascii=False)}"


def test_all_unknown_characters_of_all_lines_are_named():
    file = CHARACTERS.to_bytes().decode()
    (found, text) = in_node("segments", [[file, "ax\nb\nyc\r\nz", True], [file, 7, False]])
    assert found == "The model does not know the characters x y z"
    assert text == "The text must be a string, not number."


CONFIG = {"learning": {"rate": 12.0}}


def test_options_of_learn():
    rate, by_line = (
        "rate must be a positive number, at most 1,000,000. Received: ",
        "by_line must be true or false. Received: ",
    )
    cases = {
        '{}': {"rate": 12, "by_line": False},
        'null': {"rate": 12, "by_line": False},
        '{"rate": 3, "by_line": true}': {"rate": 3, "by_line": True},
        '{"rate": 0}': rate + "0",
        '{"rate": -1}': rate + "-1",
        '{"rate": 1000001}': rate + "1000001",
        '{"rate": "1"}': rate + '"1"',
        '{"rate": null}': rate + "null",
        '{"by_line": 1}': by_line + "1",
        '{"speed": 1}': "speed is not an option. The options are rate, by_line.",
    }  # fmt: skip
    asked = [[json.loads(options), CONFIG] for options in cases]
    for (options, expected), found in zip(cases.items(), in_node("options", asked), strict=True):
        assert found == expected, options
    (found,) = in_node("options", [[{}, CONFIG | {"by_line": True}]])
    assert found == {"rate": 12, "by_line": True}


# ---- the loop ----

BEFORE = ["set", "before", pytest.approx(np.log([0.2, 0.2, 0.6]).tolist())]
LEARNED = ["set", "learned", BEFORE[2]]
NOW, EARLIER = (["set", weights, [-100, -100, 0]] for weights in ("learned", "before"))


def learned(lengths, given, rate=2):
    """What the loop does with segments of these lengths, given the log-probabilities of each call of `learn`."""
    parts = [list(range(10, 10 + length)) for length in lengths]
    (found,) = in_node("learning", [[parts, rate, given]])
    assert found["live"] == 0
    return found


def test_a_text_is_read_in_blocks_and_its_end_is_checked():
    given = [[-1, -2], [-3, -2], [-0.5, -1], [-1, -1], [-2, -4], [-9, -9]]
    found = learned([70, 2, 130], [*given, [-1.5, -1], [-1.5, -1], [-3, -1], [-3, -1]])
    blocks = [one[1:] for one in found["called"] if one[0] == "learn"]
    # The last blocks with 64 tokens are read again with what was learned and with what was known before.
    starts = [(0, 64), (64, 70), (0, 2), (0, 64), *3 * [(64, 128), (128, 130)]]
    for (before, following, rate), (start, end), number in zip(blocks, starts, range(10), strict=True):
        assert following == list(range(10 + start, 10 + end))
        assert before == [1 if start == 0 else 9 + start, *following[:-1]]
        assert rate == (2 if number < 6 else 0)
    assert [one for one in found["called"] if one[0] == "set"] == [NOW, NOW, EARLIER, EARLIER, LEARNED]
    nats = [64 + 18 + 1 + 64 + 128 + 18, 128 + 12 + 2 + 64 + 256 + 18]
    assert found["report"] == {
        "tokens": 202,
        "natsPerToken": pytest.approx(nats[0] / 202),
        "modelNatsPerToken": pytest.approx(nats[1] / 202),
        "weight": pytest.approx(0.5 * 0.2 + 0.6),
    }


@pytest.mark.parametrize(
    ("lengths", "read_again"),
    [
        ([1], [1]),
        ([63], [63]),
        ([64], [64]),
        ([65], [64, 1]),
        ([128], [64]),
        ([129], [64, 1]),
        ([30, 30], [30, 30]),
        ([30, 30, 10], [30, 30, 10]),
        ([30, 30, 34], [30, 34]),
        ([200, 64], [64]),
        ([200, 63], [8, 63]),
        ([5] * 30, [5] * 13),
    ],
)
def test_which_blocks_are_read_again(lengths, read_again):
    count = sum(-(-length // 64) for length in lengths)
    found = learned(lengths, [[-1, -1]] * (count + 2 * len(read_again)))
    again = [len(one[2]) for one in found["called"] if one[0] == "learn" and one[3] == 0]
    assert again == 2 * read_again


LARGE = "rate is too large: learning diverged, and what was learned before is kept. Received: 2"
FINE = [-1, -1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[None, -1]], LARGE),
        ([[-1, None]], "The model in this file, or what it has learned, is damaged: its logits are not finite."),
        ([["fails", -1]], "The runtime failed."),
        ([FINE, [None, -1]], LARGE),
        ([FINE, FINE, FINE, [None, -1]], LARGE),
        ([FINE, FINE, [-2.01, -1], [-2.01, -1], FINE, FINE], LARGE),
        ([FINE, FINE, FINE, FINE, FINE, [None, -1]], LARGE),
        ([FINE, FINE, FINE, FINE, FINE, ["fails", -1]], "The runtime failed."),
        ([FINE, FINE, [-3, -1], [-3, -1], [-1.9, -1], [-1.9, -1]], LARGE),
    ],
)
def test_what_fails_leaves_what_was_learned_before(given, message):
    found = learned([70], given)
    assert found["report"] == message
    assert found["now"] == "before"
    assert sum(one[0] == "learn" for one in found["called"]) == len(given)
    assert found["called"][-1] == BEFORE


@pytest.mark.parametrize(
    ("now", "earlier"),
    [
        ([-2, -1], [-1, -1]),  # worse by a nat than the model alone
        ([-5, -1], [-4.5, -1]),  # much worse than the model alone, but not than before
        ([-5, -4.5], [-1, -4.5]),  # and the other way round
    ],
)
def test_what_was_learned_may_be_a_nat_worse(now, earlier):
    found = learned([70], [FINE, FINE, now, now, earlier, earlier])
    assert found["now"] == "learned"


# ---- meanwhile ----


def test_reads_run_together_and_a_change_alone():
    read, change = ["read", 2], ["change", 2]
    (found,) = in_node("turns", [[read, read, change, read, ["change", 3], change, read, read]])
    assert found[:4] == ["0 begins", "1 begins", "0 ends", "1 ends"]
    changes = [f"{number} {word}" for number in (2, 3, 4, 5) for word in ("begins", "ends")]
    assert found[4:-4] == changes
    assert found[-4:] == ["6 begins", "7 begins", "6 ends", "7 ends"]


CHANGED = "The model has learned or forgotten something since this text was begun; begin it again."


def test_a_text_ends_when_the_model_has_learned():
    def written(**given):
        (found,) = in_node("written", [[CHARACTERS.to_bytes().decode(), given]])
        count, message, live = found
        assert live == 0
        return count, message

    assert written() == (100, "length")
    assert written(learns=0) == (100, "length")  # before its first token
    for count in (1, 20, 32, 40, 64):
        assert written(learns=count) == (count, CHANGED)  # also where tokens are left that were drawn before
    assert written(learns=5, hasWrite=False) == (5, CHANGED)
    # In a worker, a call may be answered before the page knows. The tokens that were drawn before are still of one model.
    assert written(learns=5, late=True) == (32, CHANGED)
    assert written(learns=5, late=True, hasWrite=False) == (5, CHANGED)
    # After a change of the settings the tokens before are drawn again: another model would draw others.
    assert written(learns=5, late=True, settings={"temperature": 0.5}) == (5, CHANGED)
    assert written(learns=5, settings={"temperature": 0.5}) == (5, CHANGED)


def test_a_reader_keeps_the_states_and_not_the_logits_of_a_model_that_has_learned():
    ids = list(range(100, 150))
    texts = [ids[:3], ids[:4], None, ids[:4], ids[:4], ids[:5], None, ids[:3], ids[:2]]
    # The version and the last token, and how many tokens were read: the last ones after a mark of the same text.
    assert in_node("reading", texts) == [
        [0, 102, 4],
        [0, 103, 1],
        [1, 103, 1],
        [1, 103, 0],
        [1, 104, 1],
        [2, 102, 4],
        [2, 101, 3],
    ]


# ---- signatures ----

STATE = {"state_0": ["float32", 1, 8]}
LOGITS = {"logits": ["float32", 1, 5]}
SEVERAL, LOGS = ["int32", 1, 64], ["float32", 1, 64]
SHARES = {"log_shares": ["float32", 3]}
LEARNED_NUMBERS = {"weights": ["float32", 5, 4], **SHARES}
TEXT = {name: [{"token": ["int32", 1], **STATE}, {**LOGITS, **STATE}] for name in ("decode", "prefill", "sample")}
LEARN = [
    {"tokens": SEVERAL, "next_tokens": SEVERAL, "length": ["int32", 1], "rate": ["float32", 1], **STATE},
    {"log_probabilities": LOGS, "model_log_probabilities": LOGS, **STATE},
]
LEARNING = {
    "learn": LEARN,
    "get_weights": [{}, LEARNED_NUMBERS],
    "set_weights": [LEARNED_NUMBERS, SHARES],
    "reset_weights": [{}, SHARES],
}


def test_a_file_has_all_signatures_that_learn_or_none():
    def check(signatures, config=CONFIG):
        return in_node("signatures", [[{**TEXT, **signatures}, 5, config]])[0]

    assert check({}, {}) is None
    assert check(LEARNING) is None
    for name in LEARNING:
        without = {one: shapes for one, shapes in LEARNING.items() if one != name}
        expected = f"This file lacks the signature {name}, which does not fit its config.json: export it again."
        assert check(without) == expected
        expected = f"This file has the signature {name}, which does not fit its config.json: export it again."
        assert check({name: LEARNING[name]}, {}) == expected
        for side in (0, 1):
            for tensor, (dtype, *shape) in LEARNING[name][side].items():
                for changed in (None, ["uint8", *shape], [dtype, *shape[:-1], shape[-1] + 1], [dtype, *shape, 1]):
                    if name == "get_weights" and tensor == "weights" and changed == ["float32", 5, 5]:
                        continue  # It is as good as any, and the others do not fit it.
                    wrong = [dict(one) for one in LEARNING[name]]
                    wrong[side] = {one: spec for one, spec in wrong[side].items() if one != tensor}
                    wrong[side] |= {} if changed is None else {tensor: changed}
                    message = check({**LEARNING, name: wrong})
                    assert message is not None, (name, tensor, changed)
                    assert message.startswith("The "), message
        extra = [LEARNING[name][0] | {"more": ["int32", 1]}, LEARNING[name][1]]
        assert check({**LEARNING, name: extra}).startswith(f"The inputs of {name} in this file must be ")
