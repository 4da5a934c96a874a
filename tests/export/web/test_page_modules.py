"""The modules of the page that need no browser, in Node: the text with its history, its parts, and what the model reads of it."""

import functools
import gzip
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node import in_node_with

import keras_seq as ks
from keras_seq_export.tflite.page_files import page_folder

in_node = functools.partial(in_node_with, "web_page.mjs")


def imported(file, found):
    """Adds the modules that a module imports, directly or not."""
    for address in re.findall(r'^(?:import|export)[^;]*?from "([.][^"]+)"', file.read_text(), flags=re.M):
        module = (file.parent / address).resolve()
        if module not in found:
            found.add(module)
            imported(module, found)
    return found


def test_the_page_names_all_modules_that_it_imports():
    """Otherwise, the browser asks for them one after the other."""
    page = page_folder().resolve()
    named = re.findall(r'<link rel="modulepreload" href="(.*?)"', (page / "index.html").read_text())
    assert sorted(named) == sorted(it.relative_to(page).as_posix() for it in imported(page / "page" / "app.js", set()))


def test_a_visit_loads_little():
    """What the page and its worker load, as it is sent, in gzip; LiteRT.js is larger."""
    page = page_folder().resolve()
    scripts = {page / "page" / "app.js", page / "keras_seq" / "worker_thread.js"}
    scripts |= {module for script in set(scripts) for module in imported(script, set())}
    files = [*scripts, page / "index.html", page / "page" / "theme.css", page / "page" / "style.css"]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < 100_000


class Oracle:
    """The same text, as a list of characters, each with the token that it belongs to, and a copy for each step of undo."""

    def __init__(self):
        self.characters = []
        self.steps = []
        self.undone = []
        self.group = None
        self.tokens = 0

    def replace(self, start, end, insert, tokens, group):
        if insert == self.text[start:end] and not tokens:
            return
        if group is None or group != self.group:
            self.steps.append(list(self.characters))
        self.group, self.undone = group, []
        cut = {token for _, token in self.characters[start:end]} - {None}
        around = {self.characters[at][1] if 0 <= at < len(self.characters) else None for at in (start - 1, end)}
        if start == end and len(around) == 1:
            cut |= around - {None}  # inside a token
        kept = [(one, None if token in cut else token) for one, token in self.characters]
        new = []
        for text, token_id, probability, run in tokens:
            self.tokens += 1
            new += [(one, (self.tokens, token_id, probability, run)) for one in text]
        self.characters = kept[:start] + (new or [(one, None) for one in insert]) + kept[end:]

    def move(self, source, target):
        if source:
            target.append(self.characters)
            self.characters = source.pop()
        self.group = None

    @property
    def text(self):
        return "".join(one for one, _ in self.characters)

    @property
    def written(self):
        found = {}
        for position, (_, token) in enumerate(self.characters):
            if token is not None:
                found.setdefault(token, position)
        counts = {token: sum(it == token for _, it in self.characters) for token in found}
        return [[start, start + counts[token], *token[1:]] for token, start in found.items()]


@st.composite
def changes(draw):
    """Random changes of a text that is never longer than they know, with undo and redo between them."""
    length, found = 0, []
    lengths, undone = [], []
    for _ in range(draw(st.integers(1, 30))):
        kind = draw(st.sampled_from(["replace", "replace", "write", "write", "undo", "redo"]))
        if kind in ("undo", "redo"):
            source, target = (lengths, undone) if kind == "undo" else (undone, lengths)
            if source:
                target.append(length)
                length = source.pop()
            found.append((kind,))
            continue
        start = draw(st.integers(0, length)) if kind == "replace" else length
        end = draw(st.integers(start, length)) if kind == "replace" else length
        pieces = draw(st.lists(st.sampled_from(["a", "b ", "the", "", "\n"]), max_size=4))
        tokens = [[text, draw(st.integers(0, 9)), 0.5, draw(st.integers(1, 2))] for text in pieces]
        insert = "".join(pieces)
        found.append(("replace", start, end, insert, tokens if kind == "write" else []))
        lengths.append(length)
        undone = []
        length += len(insert) - (end - start)
    return found


@settings(max_examples=25)
@given(runs=st.lists(changes(), min_size=20, max_size=20))
def test_any_changes_undone_and_redone_are_those_of_a_naive_oracle(runs):
    asked, expected = zip(*map(changed_oracle, runs), strict=True)
    for found, states in zip(in_node("histories", asked), expected, strict=True):
        assert [(it["text"], it["written"], it["canUndo"], it["canRedo"]) for it in found] == states


def changed_oracle(run):
    """Returns the changes as `history` takes them, and the oracle's state after each."""
    oracle, asked, expected = Oracle(), [], []
    for name, *arguments in run:
        if name == "replace":
            start, end, insert, tokens = arguments
            start, end = min(start, len(oracle.text)), min(end, len(oracle.text))
            oracle.replace(start, end, insert, tokens, None)
            names = ("text", "tokenId", "probability", "run")
            asked.append([name, start, end, insert, {"tokens": [dict(zip(names, it, strict=True)) for it in tokens]}])
        else:
            oracle.move(*((oracle.steps, oracle.undone) if name == "undo" else (oracle.undone, oracle.steps)))
            asked.append([name])
        expected.append((oracle.text, oracle.written, bool(oracle.steps), bool(oracle.undone)))
    return asked, expected


def token(text, run=1):
    return {"text": text, "tokenId": 5, "probability": 0.25, "run": run}


def write(start, *texts, run=1):
    return [
        "replace",
        start,
        start,
        "".join(texts),
        {"tokens": [token(it, run) for it in texts], "group": f"run {run}"},
    ]


def texts_after_undo(changes):
    found = in_node("history", [*changes, *[["undo"]] * 20])
    texts = [it["text"] for it in found[len(changes) :]]
    return texts[: texts.index("") + 1]


def test_typing_is_undone_by_words_and_writing_by_calls():
    typed = "To be, or"
    changes = [["type", at, at, one, at * 100] for at, one in enumerate(typed)]
    changes += [write(9, " not"), write(13, " to"), write(16, " be", run=2)]
    assert texts_after_undo(changes) == ["To be, or not to", "To be, or", "To be, ", "To ", ""]


def test_a_pause_and_another_place_and_deleting_begin_another_step():
    changes = [["type", 0, 0, "a", 0], ["type", 1, 1, "b", 999], ["type", 2, 2, "c", 2500], ["type", 0, 0, "d", 2600]]
    changes += [["type", 3, 4, "", 2700], ["type", 2, 3, "", 2800]]
    assert texts_after_undo(changes) == ["dabc", "abc", "ab", ""]


def test_redo_ends_where_something_else_is_typed():
    found = in_node("history", [["type", 0, 0, "a", 0], ["undo"], ["redo"], ["undo"], ["type", 0, 0, "b", 0], ["redo"]])
    assert [(it["text"], it["answer"], it["canRedo"]) for it in found] == [
        ("a", None, False),
        ("", 0, True),
        ("a", 1, False),
        ("", 0, True),
        ("b", None, False),
        ("b", None, False),
    ]


def test_replaced_text_and_what_is_written_in_its_place_are_one_step():
    """Try again, and an alternative."""
    again = ["replace", 2, 7, "", {"group": "again"}]
    more = [
        ["replace", 2 + at, 2 + at, one, {"tokens": [token(one, 2)], "group": "again"}] for at, one in enumerate("xyz")
    ]
    found = in_node("history", [["type", 0, 0, "To", 0], write(2, " be", ", "), again, *more, ["undo"], ["redo"]])
    assert [it["text"] for it in found[-3:]] == ["Toxyz", "To be, ", "Toxyz"]
    assert found[-2]["written"] == found[1]["written"]
    assert found[-1]["written"] == found[-3]["written"] == [[2 + at, 3 + at, 5, 0.25, 2] for at in range(3)]


def test_the_last_run_is_what_one_call_wrote_at_the_end():
    changes = [write(0, "a", "b"), write(2, "c", "d", run=2), ["type", 3, 4, "", 0], ["type", 3, 3, "!", 0], ["undo"]]
    assert [it["lastRun"] for it in in_node("history", changes)] == [0, 2, 2, None, 2]


def test_a_text_survives_a_reload_and_a_damaged_one_is_refused():
    found = in_node("history", [["type", 0, 0, "To ", 0], write(3, "be"), ["reload"], ["undo"]])
    assert found[2] | {"canUndo": True, "answer": 5} == found[1]
    assert (found[3]["text"], found[3]["canUndo"]) == ("To be", False)
    wrong = [[0, 9, 5, 0.5, 1], [1, 1, 5, 0.5, 1], [0, 1, 5, 0.5], [0, 1, None, 0.5, 1], [0, 1, 5, "0.5", 1], 7]
    states = [None, 3, {}, {"text": "ab"}, {"text": 3, "written": []}, {"text": "ab", "written": {}}]
    states += [{"text": "ab", "written": [it]} for it in wrong]
    states.append({"text": "ab", "written": [[1, 2, 5, 0.5, 1], [0, 1, 5, 0.5, 1]]})
    assert in_node("damaged", states) == [None] * len(states)


@settings(max_examples=25)
@given(
    cases=st.lists(
        st.tuples(*[st.text("ab🙂 ", max_size=6)] * 4, st.booleans()),
        min_size=30,
        max_size=30,
    )
)
def test_an_edit_turns_the_text_before_into_the_text_after(cases):
    asked = []
    for head, removed, inserted, tail, knows in cases:
        before, after = head + removed + tail, head + inserted + tail
        caret = len((head + inserted).encode("utf-16-le")) // 2 if knows else 0
        asked.append([before, after, caret])

    def units(text):
        return text.encode("utf-16-le", "surrogatepass")

    for (before, after, _), edit in zip(asked, in_node("edits", asked), strict=True):
        old = units(before)
        assert old[: 2 * edit["start"]] + units(edit["insert"]) + old[2 * edit["end"] :] == units(after)


def test_an_edit_is_where_the_caret_is():
    """Of equal characters, that at the caret is the one that changed."""
    asked = [["aaa", "aaaa", 2], ["aaa", "aa", 1], ["ab ab", "ab", 2], ["x", "xy", 2]]
    expected = [(1, 1, "a"), (1, 2, ""), (2, 5, ""), (1, 1, "y")]
    assert [(it["start"], it["end"], it["insert"]) for it in in_node("edits", asked)] == expected


@pytest.mark.parametrize(
    ("insert", "takes"),
    [
        (".", True),
        (",", True),
        ("?", True),
        ("\n", True),
        (" ", True),
        ("”", True),
        ("a", False),
        ("“", False),
        ("-", False),
    ],
)
def test_punctuation_takes_the_place_of_the_space_after_a_suggestion(insert, takes):
    edit = {"start": 6, "end": 6, "insert": insert}
    elsewhere, deleting = edit | {"start": 5, "end": 5}, {"start": 5, "end": 6, "insert": ""}
    found = in_node("spaces", [[it, 6] for it in (edit, elsewhere, deleting)])
    assert found == [edit | {"start": 5 if takes else 6}, elsewhere, deleting]


def test_the_parts_of_a_text():
    written = [{"start": 2, "end": 3, "probability": 0.9}, {"start": 3, "end": 5, "probability": 0.001}]
    marked = [{"start": 0, "end": 1}, {"start": 2, "end": 4}]
    plain, marks, colours, separate = in_node(
        "parts",
        [
            ["abcdef", written, []],
            ["abcdef", written, marked],
            ["abcdef", written, [], {"colours": True}],
            ["abcdef", written, [], {"separate": True}],
        ],
    )

    def listed(parts):
        return [(it["start"], it["end"], it["kind"]) for it in parts]

    assert listed(plain) == [(0, 2, ""), (2, 5, "written"), (5, 6, "")]
    assert listed(marks) == [
        (0, 1, "unknown"),
        (1, 2, ""),
        (2, 4, "written unknown"),
        (4, 5, "written"),
        (5, 6, ""),
    ]
    assert listed(colours) == [(0, 2, ""), (2, 3, "written level-1"), (3, 5, "written level-5"), (5, 6, "")]
    assert listed(separate) == [(0, 2, ""), (2, 3, "written"), (3, 5, "written odd"), (5, 6, "")]


def test_marks_side_by_side_are_one_part():
    (parts,) = in_node("parts", [["abcd", [], [{"start": at, "end": at + 1} for at in range(3)]]])
    assert [(it["start"], it["end"], it["kind"]) for it in parts] == [(0, 3, "unknown"), (3, 4, "")]


@settings(max_examples=10)
@given(texts=st.lists(st.text("ab \n", max_size=20), min_size=30, max_size=30))
def test_the_lines_of_the_backdrop_are_those_of_the_text(texts):
    """The last one has a filler if it is empty, in the block of the line before."""
    asked = []
    for text in texts:
        written = [{"start": at, "end": min(at + 3, len(text)), "probability": 1} for at in range(1, len(text), 4)]
        asked.append([text, written, [], {"separate": True}])
    for (text, written, *_), lines in zip(asked, in_node("lines", asked), strict=True):
        contents = ["".join(part["content"] for part in line) for line in lines]
        if text == "" or text.endswith("\n"):
            assert contents[-1].endswith("\u200b")
            contents[-1] = contents[-1].removesuffix("\u200b")
        assert contents == (text.splitlines(keepends=True) or [""])
        kinds = [part["kind"] for line in lines for part in line for _ in part["content"].rstrip("\u200b")]
        expected = [""] * len(text)
        for index, token in enumerate(written):
            for at in range(token["start"], token["end"]):
                expected[at] = "written odd" if index % 2 else "written"
        assert kinds == expected


def test_marks_move_with_the_text_and_those_that_change_are_gone():
    marks = [{"start": 1, "end": 3}, {"start": 5, "end": 6}]
    asked = [[0, 0, "xy"], [3, 5, ""], [2, 2, "x"], [0, 9, "new"], [6, 6, "x"], [5, 6, ""]]
    found = in_node("moved", [[marks, *it] for it in asked])
    assert [[(it["start"], it["end"]) for it in one] for one in found] == [
        [(3, 5), (7, 8)],
        [(1, 3), (3, 4)],
        [(6, 7)],
        [],
        [(1, 3), (5, 6)],
        [(1, 3)],
    ]


@settings(max_examples=10)
@given(
    cases=st.lists(st.tuples(*[st.lists(st.integers(0, 40), max_size=14, unique=True)] * 2), min_size=20, max_size=20)
)
def test_parts_that_are_removed_at_once_leave_what_removing_one_after_the_other_does(cases):
    text = "".join(chr(ord("A") + at) for at in range(40))
    asked, all_parts = [], []
    for cuts, ends in cases:
        borders = sorted({0, *cuts, 40})
        tokens = [text[start:end] for start, end in itertools.pairwise(borders)]
        own = tokens[: len(tokens) // 2]  # The rest is the user's.
        size = len("".join(own))
        begun = [write(0, *own), ["replace", size, size, text[size:], {}]]
        edges = sorted(ends)[: len(ends) // 2 * 2]
        parts = [{"start": start, "end": end} for start, end in zip(edges[::2], edges[1::2], strict=True)]
        one_by_one = [["replace", it["start"], it["end"], "", {"group": "x"}] for it in reversed(parts)]
        asked += [[*begun, ["removeParts", parts], ["undo"], ["redo"]], [*begun, *one_by_one]]
        all_parts.append(parts)
    histories = in_node("histories", asked)
    for parts, at_once, one_after_the_other in zip(all_parts, histories[::2], histories[1::2], strict=True):
        before, *_, undone, again = at_once[1:]
        expected = one_after_the_other[-1]
        for found in (at_once[2], again):
            assert (found["text"], found["written"]) == (expected["text"], expected["written"])
        if parts:
            assert (undone["text"], undone["written"]) == (before["text"], before["written"])


def test_line_breaks_are_line_feeds_as_in_a_text_field():
    given = [["replace", 0, 0, "a\r\nb\rc"], write(5, "\r", "d", "\r\n")]
    first, second = in_node("history", given)
    assert (first["text"], first["answer"]) == ("a\nb\nc", 5)
    assert (second["text"], second["answer"]) == ("a\nb\nc\nd\n", 8)
    assert [it[:2] for it in second["written"]] == [[5, 6], [6, 7], [7, 8]]
    (kept,) = in_node("damaged", [{"text": "a\rb", "written": [[2, 3, 5, 0.5, 1]]}])
    assert kept["text"] == "a\nb"


def test_the_levels_of_probability():
    assert in_node("levels", [1, 0.5, 0.49, 0.2, 0.19, 0.05, 0.04, 0.01, 0.009, 0]) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_the_opening_ends_with_the_third_line_that_has_text():
    pieces = ["One\n", "\n", " \n", "two", "\n", "three\n", "four"]
    assert in_node("openings", [pieces, ["a" * 299, "b", "c"]]) == [5, 1]


CHARACTERS = [ks.Vocabulary.from_text("to be\n").to_bytes().decode(), False]
LINES = [ks.Vocabulary.from_text("to be").to_bytes().decode(), True]
APOSTROPHE = [ks.Vocabulary.from_text("to'be\n").to_bytes().decode(), False]
CURLY = [ks.Vocabulary.from_text("to’be'\n").to_bytes().decode(), False]
BETWEEN_SPACES = ["<s>\n<eos>\n<pad>\n<unk>\nto\nbe,\nor\n", False]  # of a vocabulary made elsewhere
WORDS = [ks.Vocabulary.from_text("to be, or not to be", level="word").to_bytes().decode(), False]


def test_what_the_model_does_not_know_is_skipped():
    assert in_node("readable", [CHARACTERS, ["to 🙂be", "🙂", "", "tΩo\n"]]) == ["to be", "", "", "to\n"]
    assert in_node("readable", [LINES, ["to\nbeΩ", "to\n", "to"]]) == ["be", "", "to"]
    assert in_node("readable", [WORDS, ["to see"]]) == ["to see"]
    # Phones type ’, which these vocabularies lack.
    assert in_node("readable", [APOSTROPHE, ["to’be"]]) == ["to'be"]
    assert in_node("readable", [CURLY, ["to’be"]]) == ["to’be"]


def test_a_caret_between_two_characters_of_a_word_is_inside_it():
    text = "to be, 🙂’tis 9x 🙂to"
    carets = list(range(len(text.encode("utf-16-le")) // 2 + 1))
    inside = [caret for caret, is_inside in zip(carets, in_node("insides", [text, carets]), strict=True) if is_inside]
    assert [text.encode("utf-16-le")[: 2 * caret].decode("utf-16-le") for caret in inside] == [
        "t",
        "to b",
        "to be, 🙂’t",
        "to be, 🙂’ti",
        "to be, 🙂’tis 9",
        "to be, 🙂’tis 9x 🙂t",
    ]


def test_the_sentence_about_what_the_model_does_not_know():
    found = in_node("unknown", [CHARACTERS, [["to be", -1], ["t🙂", -1], ["🙂Ω\u0007🙂xyz", 3]]])
    assert found[0] == [[], None]
    assert found[1] == [["🙂"], "This model does not know ‘🙂’, and skips it."]
    assert found[2][1] == "This model does not know ‘🙂’, ‘Ω’, ‘U+0007’ and 3 more, and skips them."
    assert in_node("unknown", [LINES, [["to\nbe", -1]]]) == [[[], None]]


def test_an_unknown_word_is_reported_once_it_is_finished():
    found = in_node("unknown", [WORDS, [["to see", 6], ["to see, or", 10], ["to see", 3]]])
    sentence = "This model does not know ‘see’, and reads it as an unknown word."
    assert found == [[[], None], [["see"], sentence], [["see"], sentence]]
    (two,) = in_node("unknown", [WORDS, [["to see, or to try", -1]]])
    assert two[1] == "This model does not know ‘see’, ‘try’, and reads them as unknown words."


def test_half_of_a_character_is_skipped_at_every_level():
    for model, known in ((CHARACTERS, "to be"), (WORDS, "to be"), (BETWEEN_SPACES, "to be,")):
        text = known[:4] + "\ud83d" + known[4:]
        ((found, sentence),) = in_node("unknown", [model, [[text, 5]]])
        assert (found, sentence) == (["\ud83d"], "This model does not know ‘U+D83D’, and skips it.")
        assert in_node("readable", [model, [text]]) == [known]
    ((found, sentence),) = in_node("unknown", [WORDS, [["see \ude00be", -1]]])
    assert found == ["see", "\ude00"]
    read = "This model does not know ‘see’, and reads it as an unknown word."
    assert sentence == f"{read} This model does not know ‘U+DE00’, and skips it."


@settings(max_examples=5)
@given(texts=st.lists(st.text("tobe,r \n🙂’", max_size=30), min_size=60, max_size=60))
def test_what_is_unknown_line_by_line_is_what_is_unknown_in_the_whole_text(texts):
    for model in (CHARACTERS, WORDS, BETWEEN_SPACES):
        for found, whole in in_node("inOneModel", [model, texts]):
            assert [{name: it[name] for name in ("start", "end", "text")} for it in found] == whole


def test_the_space_after_a_word_of_the_model():
    """Split at white space, a word can end in a comma."""

    def states(*ends):
        return [[{"text": "to be, or", "written": [[0, 2, 5, 0.5, 1], [2, 6, 6, 0.5, 1]]}, end] for end in ends]

    assert in_node("spacesAfter", [BETWEEN_SPACES, states(2, 5, 6, 9)]) == [" ", "", " ", ""]
    assert in_node("spacesAfter", [WORDS, states(2, 6)]) == [" ", ""]
    assert in_node("spacesAfter", [CHARACTERS, states(2)]) == [""]
    beyond = {"text": "𠀀", "written": [[0, 2, 5, 0.5, 1]]}  # a character of two code units, of a script without spaces
    assert in_node("spacesAfter", [WORDS, [[beyond, 2]]]) == [""]


def test_a_percentage_is_never_0_or_100():
    shares = [0, 0.004, 0.005, 0.124, 0.126, 0.9949, 0.995, 0.9999, 1]
    assert in_node("percents", shares) == ["<1%", "<1%", "1%", "12%", "13%", "99%", ">99%", ">99%", ">99%"]


def test_the_names_of_tokens():
    texts = ["", "\n", " ", "\t", " to", "constructor", "__proto__"]
    names = ["the end", "new line", "space", "tab", "to", "constructor", "__proto__"]
    assert in_node("names", texts) == names


def test_the_title_of_the_alternatives_says_what_they_show():
    """The text before a token may have been changed since the model wrote it."""
    token = {"text": " to", "tokenId": 7, "probability": 0.5}
    listed = [{"tokenId": 3, "probability": 0.6}, {"tokenId": 7, "probability": 0.1}]
    assert in_node("titles", [[token, listed], [token, listed[:1]]]) == [
        "‘to’ has 10% here. It could have been:",
        "‘to’ is not among the likeliest here. It could have been:",
    ]
