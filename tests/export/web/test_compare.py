"""The comparison of two models in Chromium: the verbs and the gates are those of Python."""

import json
import shutil

import keras
import numpy as np
import pytest
from browser import DESKTOP, PHONE, opened, violations
from hamlet import tiny_model
from next_tokens import percent
from sites import served_page

import keras_seq as ks
from keras_seq.data import agreement
from keras_seq_export import export_tflite

CELLS = {"simple_rnn": "SimpleRNN", "gru": "GRU"}
VOCABULARY = ks.Vocabulary.from_text(agreement.agreement_corpus(2000).train, level="word")
WAS, WERE = (VOCABULARY.encode(f" {verb}")[0] for verb in ("was", "were"))
SHOWN = 16  # units


@pytest.fixture(scope="module")
def models():
    """Models that have learned nothing: they are right about half of the time, and sure enough to be compared."""
    keras.utils.set_random_seed(1)
    simple_rnn = ks.language_model(len(VOCABULARY), cell="simple_rnn", units=[24], embedding_dim=8)
    logits = simple_rnn.get_layer("logits")  # With larger weights elsewhere, rounding would grow from word to word.
    logits.set_weights([weight * 6 for weight in logits.get_weights()])
    return {"simple_rnn": simple_rnn, "gru": tiny_model(VOCABULARY, units=[24])}


@pytest.fixture(scope="module")
def demo(models, tmp_path_factory):
    """A directory like that of `keras-seq demo`."""
    folder = tmp_path_factory.mktemp("demo")
    for cell, model in models.items():
        card = {"name": CELLS[cell]}
        export_tflite(model, VOCABULARY, folder / f"{cell}.tflite", by_line=True, gates=cell == "gru", card=card)
    return folder


@pytest.fixture(scope="module")
def address(demo, litert):
    with served_page(None, litert, demo) as home:
        yield f"{home}compare.html"


@pytest.fixture
def page(address, chromium):
    with opened(chromium, address) as page:
        page.wait_for_selector("#verbs table")
        yield page


def type_sentence(page, text):
    page.fill("#text", text)
    words = len(VOCABULARY.encode(text))
    page.wait_for_function(f"() => document.querySelectorAll('#verbs tbody tr').length === {words}")


def read(page):
    """Returns the words, the bars of each model (number and memory, how sure, label, mark) and the gates."""
    return page.evaluate(
        """() => {
          const property = (it, name) => Number(it.style.getPropertyValue(name));
          const sides = ["singular", "plural", "remembers", "partly", "forgotten", "reversed"];
          const classes = (it) => sides.filter((one) => it.classList.contains(one));
          const mark = (it) => it && [property(it, "--at"), it.ariaLabel];
          const bar = (it) => [classes(it), property(it, "--sure"), it.textContent, mark(it.querySelector(".mark"))];
          const rows = [...document.querySelectorAll("#verbs tbody tr")];
          const gates = [...document.querySelectorAll("#gates tbody tr")];
          return {
            text: document.getElementById("text").value,
            words: rows.map((row) => row.querySelector("th").textContent),
            bars: rows.map((row) => [...row.querySelectorAll(".bar")].map(bar)),
            means: gates.map((row) => Number(row.querySelector(".mean").textContent)),
            gates: gates.map((row) => [...row.querySelectorAll("i")].map((it) => property(it, "--gate"))),
          };
        }"""
    )


def ids_of(text):
    return [VOCABULARY.start_id, *VOCABULARY.encode(text).tolist()]


def number_of(word):
    return "singular" if word in agreement._SINGULAR else "plural" if word in agreement._PLURAL else None


def subject_of(words):
    position = next(index for index, word in enumerate(words) if number_of(word))
    return position, number_of(words[position])


def with_subject(text, number):
    """Returns a sentence with its subject in one number, and this noun."""
    words = text.replace(",", " ,").split()
    position, _ = subject_of(words)
    noun = words[position]
    forms = next(pair for pair in agreement._PLURAL_OF.items() if noun in pair)
    words[position] = forms[number == "plural"]
    return " ".join(words).replace(" ,", ","), words[position]


def other_of(number):
    return "singular" if number == "plural" else "plural"


def shares_of_plural(model, text):
    """Returns the probability of `were` among `was` and `were` after each word, from the Keras model."""
    logits = model.predict(np.array([ids_of(text)]), verbose=0)[0, 1:].astype("float64")
    return 1 / (1 + np.exp(logits[:, WAS] - logits[:, WERE]))


def gates_of(model, text):
    """Returns the update gates after each word, from the Keras layer."""
    layer = next(layer for layer in model.layers if isinstance(layer, ks.GRU))
    given = keras.Model(model.input, layer.input)(np.array([ids_of(text)]))
    return np.asarray(layer.gates(given).update[0, 1:], "float64")


def memory_of(singular, plural):
    """Returns what a model remembers, from the shares of the plural in both readings."""
    difference = int(plural * 100 + 0.5) - int(singular * 100 + 0.5)
    if abs(difference) < 10:
        return "forgotten"
    return "reversed" if difference < 0 else "remembers" if difference > 50 else "partly"


SENTENCES = [
    "the old cats, which saw the bird near the tree, followed the dog under the table,",
    "the cat near the small dogs",
    "the apple",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_each_verb_is_what_the_keras_models_expect(sentence, page, models):
    type_sentence(page, sentence)
    found = read(page)
    assert found["words"] == [VOCABULARY.tokens[token].strip() for token in ids_of(sentence)[1:]]
    position, number = subject_of(found["words"])
    other_sentence, other_noun = with_subject(sentence, other_of(number))
    for column, model in enumerate(models.values()):
        shares, others = (shares_of_plural(model, text) for text in (sentence, other_sentence))
        np.testing.assert_allclose(shares[:position], others[:position], rtol=0, atol=1e-6)
        for index, (share, other) in enumerate(zip(shares, others, strict=True)):
            classes, sure, label, mark = found["bars"][index][column]
            side, verb = ("plural", "were") if share > 0.5 else ("singular", "was")
            assert sure == pytest.approx(abs(2 * share - 1), abs=2e-3)
            if index < position:
                assert (classes, label, mark) == ([side], f"{verb} {percent(max(share, 1 - share))}", None)
                continue
            memory = memory_of(share, other) if number == "singular" else memory_of(other, share)
            assert classes == [side, memory]
            sign = f"✗ {memory}: " if memory in ("forgotten", "reversed") else ""
            assert label == f"{sign}{verb} {percent(max(share, 1 - share))}"
            assert mark[0] == pytest.approx(other, abs=1e-3)
            assert (
                mark[1] == f"with “{other_noun}”: {'were' if other > 0.5 else 'was'} {percent(max(other, 1 - other))}"
            )


def test_each_gate_is_that_of_the_keras_layer(page, models):
    """The first units are those that hold most of what they wrote at the subject."""
    type_sentence(page, SENTENCES[0])
    found, gates = read(page), gates_of(models["gru"], SENTENCES[0])
    position, _ = subject_of(found["words"])
    kept = gates[position] * np.prod(1 - gates[position + 1 :], axis=0)
    units = np.argsort(-kept, kind="stable")[:SHOWN]
    np.testing.assert_allclose(found["gates"], gates[:, units], rtol=0, atol=6e-4)
    np.testing.assert_allclose(found["means"], gates[:, units].mean(axis=1), rtol=0, atol=6e-3)
    caption = page.text_content("#gates_caption")
    assert f"Unit {units[0]} wrote {gates[position, units[0]]:.2f} at “cats”" in caption
    assert f"still holds {percent(kept[units[0]])}" in caption


SAID = {
    "remembers": "✓ it remembers the subject",
    "partly": "it remembers the subject in part",
    "forgotten": "✗ it has forgotten the subject",
    "reversed": "✗ the wrong way round",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_verdict_is_that_of_both_readings(sentence, page, models):
    type_sentence(page, sentence)
    lines = page.eval_on_selector_all("#verdicts p", "all => all.map((it) => it.textContent)")
    (one, noun), (several, nouns) = (with_subject(sentence, number) for number in ("singular", "plural"))
    for line, (cell, model) in zip(lines, models.items(), strict=True):
        shares = [shares_of_plural(model, text)[-1] for text in (one, several)]
        verbs = ["were" if share > 0.5 else "was" for share in shares]
        percents = [percent(max(share, 1 - share)) for share in shares]
        second = f"{verbs[1]} with" if verbs[0] != verbs[1] else "with"
        same = "the same answer to both; " if verbs[0] == verbs[1] and percents[0] == percents[1] else ""
        assert line == (
            f"The {CELLS[cell]} expects {verbs[0]} with {percents[0]} for {noun} and {second} {percents[1]} for {nouns}: "
            f"{same}{SAID[memory_of(*shares)]}."
        )
    rule = page.text_content("#rule")
    assert rule.startswith(
        f"Each model reads the sentence twice, with {noun} and with {nouns}; all other words stay the same."
    )


def test_only_the_difference_of_both_readings_counts(page):
    """A model that says the same to both has forgotten, whatever it says; one that remembers gets both verbs right."""
    shares = [points / 100 for points in range(0, 101, 2)]
    found = page.evaluate(
        """async (shares) => {
          const { memoryOf } = await import("./page/compare_memory.js");
          return shares.map((one) => shares.map((several) => memoryOf({ ofPlural: one }, { ofPlural: several })));
        }""",
        shares,
    )
    for one, row in zip(shares, found, strict=True):
        for several, memory in zip(shares, row, strict=True):
            difference = round(100 * (several - one))
            assert (memory == "remembers") == (difference > 50)
            if memory == "remembers":
                assert one < 0.5 < several
            assert (memory == "forgotten") == (abs(difference) < 10)
            assert (memory == "reversed") == (difference <= -10)


def test_the_sentences_have_the_grammar_s_words_and_the_chosen_distance(page):
    drawn = page.evaluate(
        """async () => {
          const { DISTANCES, drawSentence, PLURALS } = await import("./page/compare_sentence.js");
          const [numbers, sentences] = [["singular", "plural"], []];
          for (const distance of DISTANCES)
            for (let seed = 0n; seed < 20n; seed++)
              sentences.push([distance, ...numbers.map((number) => drawSentence(seed, number, distance))]);
          return [PLURALS, sentences];
        }"""
    )
    plurals, sentences = json.loads(json.dumps(drawn))
    assert plurals == agreement._PLURAL_OF
    singular_of = {several: one for one, several in plurals.items()}
    assert len({one for _, *both in sentences for one in both}) > 200
    for distance, *both in sentences:
        for number, text in zip(("singular", "plural"), both, strict=True):
            ids = VOCABULARY.encode(text)
            assert VOCABULARY.unk_id not in ids
            words = [VOCABULARY.tokens[token].strip() for token in ids]
            position, of_subject = subject_of(words)
            assert of_subject == number
            between = words[position + 1 :]
            assert len([word for word in between if word != ","]) == distance
            assert {number_of(word) for word in between} - {None} <= {"singular", "plural"} - {number}
        pairs = zip(*(text.replace(",", "").split() for text in both), strict=True)
        assert all(one == other or other in (plurals.get(one), singular_of.get(one)) for one, other in pairs)


def test_the_choices_make_another_sentence(page):
    singular = page.input_value("#text")
    page.check("input[value=plural]")
    plural = page.input_value("#text")
    assert [len(text.split()) for text in (singular, plural)] == [10, 10]  # `the`, an adjective, the noun and 7 words
    page.focus("#distance")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelectorAll('#verbs tbody tr').length === 3")
    assert page.text_content("#between") == "0 words"
    page.keyboard.press("End")
    before = page.input_value("#text")
    page.click("#another")
    assert page.input_value("#text") != before
    type_sentence(page, "the cat near the dogs")  # The choices follow a sentence that is typed.
    assert page.is_checked("input[value=singular]")
    assert page.text_content("#between") == "3 words"


def test_what_the_models_do_not_know_is_named(page):
    page.fill("#text", "the zebra near the quagga")
    page.wait_for_selector('#error:has-text(\'The SimpleRNN does not know "zebra", "quagga"\')')
    assert page.is_hidden("#figure")
    page.fill("#text", " ")
    page.wait_for_selector("#error:has-text('Type a sentence up to its verb')")
    page.fill("#text", "the old")
    page.wait_for_selector("#verbs table")
    assert page.is_hidden("#error")
    assert page.text_content("#between") == "no noun"
    assert page.locator("#verdicts strong, .mark").count() == 0
    assert page.text_content("#rule").startswith("The sentence is read once: it has no noun")


def test_a_sentence_is_tidied_before_it_is_read(page):
    page.fill("#text", " The  cats ,which saw the\nBird,")
    page.wait_for_function("() => document.querySelectorAll('#verbs tbody tr').length === 8")
    assert read(page)["words"] == ["the", "cats", ",", "which", "saw", "the", "bird", ","]
    page.fill("#text", "Cats, which saw")
    page.wait_for_selector("#error:has-text('knows \"cats\" only after another word. Begin with: the cats')")
    assert page.text_content("#rule") == ""


def test_without_the_other_form_of_the_subject_it_reads_once(chromium, litert, tmp_path):
    vocabulary = ks.Vocabulary.from_text("the cat was near the dogs, they were old", level="word")
    export_tflite(tiny_model(vocabulary, units=[8]), vocabulary, tmp_path / "gru.tflite")
    shutil.copy(tmp_path / "gru.tflite", tmp_path / "simple_rnn.tflite")
    with served_page(None, litert, tmp_path) as home, opened(chromium, f"{home}compare.html") as page:
        page.wait_for_selector("#error:not([hidden])")  # The first sentence has words that these models do not know.
        page.fill("#text", "the cat")
        page.wait_for_selector("#verbs table")
        assert page.text_content("#rule") == "The sentence is read once: the models do not both know cats."
        assert page.locator("#verdicts strong, .mark").count() == 0


def test_without_the_demo_it_says_how_to_make_it_and_opens_two_files(litert, chromium, demo, small_tflite):
    with served_page(None, litert) as home, opened(chromium, f"{home}compare.html") as page:
        page.wait_for_selector("#how:has-text('keras-seq web --demo=demo')")
        assert page.is_hidden("#comparison")
        page.set_input_files("#file_0", {"name": "notes.txt", "mimeType": "", "buffer": b"to be"})
        page.wait_for_selector("#error:has-text('notes.txt: This is not a .tflite file.')")
        page.set_input_files("#file_0", small_tflite())
        page.wait_for_selector("#error:has-text('must know a verb as one word, for one and for several: was and were')")
        page.set_input_files("#file_0", demo / "gru.tflite")
        page.wait_for_function("() => document.getElementById('status').textContent === ''")
        page.set_input_files("#file_1", demo / "simple_rnn.tflite")
        page.wait_for_selector("#verbs table")
        names = page.eval_on_selector_all("#verbs thead th", "all => all.map((it) => it.firstChild.textContent)")
        assert names == ["Word", "GRU", "SimpleRNN"]
        assert page.text_content("#gates_title") == "What does the GRU keep?"
        page.click("#other summary")
        page.set_input_files("#file_0", demo / "simple_rnn.tflite")
        page.wait_for_selector("#gates_section", state="hidden")  # Neither model has gates.


FIRST_LOADS_LAST = """() => {
  const post = Worker.prototype.postMessage;
  let loads = 0;
  Worker.prototype.postMessage = function (...message) {
    const isFirst = message[0].method === "load" && loads++ === 0;
    setTimeout(() => post.apply(this, message), isFirst ? 1500 : 0);
  };
}"""


def test_of_two_files_the_one_that_was_chosen_last_is_shown(page, demo):
    page.evaluate(FIRST_LOADS_LAST)
    page.click("#other summary")
    page.set_input_files("#file_1", demo / "gru.tflite")
    page.set_input_files("#file_1", demo / "simple_rnn.tflite")
    page.wait_for_selector("#gates_section", state="hidden")
    page.wait_for_timeout(2500)
    names = page.eval_on_selector_all("#verbs thead th", "all => all.map((it) => it.firstChild.textContent)")
    assert names == ["Word", "SimpleRNN", "SimpleRNN"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_is_accessible_according_to_axe(screen, scheme, address, litert, chromium):
    with opened(chromium, address, **screen, color_scheme=scheme, bypass_csp=True) as page:
        page.wait_for_selector("#verbs table")
        assert violations(page, litert) == []
        page.click("#other summary")
        page.fill("#text", "the zebra")
        page.wait_for_selector("#error:not([hidden])")
        assert violations(page, litert) == []


def test_nothing_is_wider_than_the_screen(address, chromium):
    with opened(chromium, address, **DESKTOP) as page:
        page.wait_for_selector("#verbs table")
        page.click("#other summary")
        for width in (360, 390, 480, 640, 768, 992, 1280, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), width
            verbs, gates = (page.locator(f"#{name} tbody tr").first.bounding_box()["y"] for name in ("verbs", "gates"))
            is_beside = width >= 992  # The rows are then those of the same words.
            assert (abs(verbs - gates) < 1) == is_beside
