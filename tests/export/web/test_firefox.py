"""The page of export/web with its own model in Firefox: its texts and suggestions are those of Python."""

import json
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import paths
import pytest
from devices import need
from next_tokens import name_of, next_tokens, percent
from npm import npm_install
from sites import served_page

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.page_files import page_folder

FIREFOX = "/usr/bin/firefox-esr"
PROMPT = "To be"
TYPED = ["I wi", "My lord, "]
SETTINGS = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 7, "max_tokens": 60}


@pytest.fixture(scope="module")
def sampler():
    """The page's own model in Python."""
    return LiteRTSampler(page_folder() / "models" / "own" / "shakespeare.tflite")


@pytest.fixture(scope="module")
def puppeteer(made_once):
    """The folder with what drives Firefox by its own protocol, WebDriver BiDi."""
    need(Path(FIREFOX).is_file(), "needs Firefox: apt-get install firefox-esr")
    return made_once("puppeteer", lambda folder: npm_install(folder, "puppeteer-core@24").parent)


@pytest.fixture(scope="module")
def seen(puppeteer, litert):
    """What a person saw on the page, from its opening to a reload."""
    shutil.copy(paths.SUPPORT / "firefox_page.mjs", puppeteer)
    with served_page(None, litert) as address:
        given = {"address": address, "firefox": FIREFOX, "typed": TYPED, "prompt": PROMPT, "settings": SETTINGS}
        command = ["node", puppeteer / "firefox_page.mjs"]
        done = subprocess.run(
            command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def written(sampler, prompt, **options):
    return prompt + sampler.sample(prompt, **{**SETTINGS, **options})


def test_no_error_and_nothing_from_elsewhere(seen):
    assert (seen["problems"], seen["errors"]) == ([], ["", ""])


def test_the_page_opens_with_its_own_model_and_has_written_three_lines(seen, sampler):
    opening = seen["opening"]
    assert opening["chip"] == "Shakespeare"
    assert ("JULIET:\n" + sampler.sample("JULIET:\n", seed=2)).startswith(opening["text"])
    assert "JULIET:\n" + opening["written"].rstrip("\u200b") == opening["text"]
    assert len([line for line in opening["text"].splitlines() if line.strip()]) == 4


def test_a_text_of_a_seed_is_that_of_python(seen, sampler):
    assert seen["seeded"] == written(sampler, PROMPT)


def test_suggestions_are_those_of_python_and_a_tap_inserts_one(seen, sampler):
    found = seen["suggestions"]
    expected = [sampler.suggest(text, 3) for text in TYPED]
    assert found["found"] == [[[it.text, percent(it.probability)] for it in words] for words in expected]
    assert found["tapped"] == TYPED[-1] + expected[-1][0].insert + " "
    assert found["focused"] == "text"  # so that a phone's keyboard stays


def test_a_tap_shows_what_else_it_could_have_been_and_undo_takes_it_back(seen, sampler):
    found = seen["alternative"]
    expected = next_tokens(sampler, found["before"], 12)
    assert found["shown"] == [[name_of(text), f"{percent(share)} · {token}"] for token, text, share in expected]
    assert (found["current"], found["focused"]) == (name_of(found["word"]), "text")
    assert found["text"] == written(sampler, found["before"] + expected[found["other"]][1])
    assert seen["seeded"].startswith(found["before"] + found["word"])
    assert found["undone"] == seen["seeded"]


def test_a_text_that_was_stopped_is_the_beginning_of_that_of_python(seen, sampler):
    fields = dict(urllib.parse.parse_qsl(seen["link"].partition("#")[2], strict_parsing=True))
    assert (fields["prompt"], fields["seed"]) == (PROMPT, str(SETTINGS["seed"]))
    assert len(seen["stopped"]) > 1000
    assert seen["stopped"] == written(sampler, PROMPT, max_tokens=int(fields["max"]))


def test_the_lines_stay_as_wide_when_the_text_becomes_longer_than_the_screen(seen):
    """Firefox has a scroll bar that takes room."""
    (width, is_longer), (width_later, is_longer_later) = seen["measures"]
    assert (is_longer, is_longer_later) == (False, True)
    assert width == width_later < 390


def test_a_link_gives_the_same_text_to_others_and_a_reload_keeps_it(seen):
    assert seen["linked"] == seen["reloaded"] == seen["afterPasting"] == seen["stopped"]
