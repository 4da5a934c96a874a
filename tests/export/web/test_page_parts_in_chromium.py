"""Parts of the page that need a browser, on a small page in Chromium: opening files, what is kept, and the model's card."""

import json
import os
import time

import pytest
from browser import DESKTOP, opened
from changing_site import serving

from keras_seq_export.tflite.page_server import page_folder

PAGE = """<!doctype html><title>parts</title>
<body style="margin: 0; height: 600px">
<button id="open" type="button">Open</button><textarea id="text" style="display: block">abc</textarea>
<dialog id="card"></dialog>
<script type="module">
  import * as card from "./page/card.js";
  import * as opening from "./page/opening.js";
  import * as saved from "./page/saved.js";
  const given = [];
  const onFile = (file) => given.push([file.name, file.size]) && (window.file = file);
  const onError = ({ message }) => given.push(message);
  opening.listenForFiles({ button: document.getElementById("open"), onFile, onError });
  Object.assign(window, { ...card, ...opening, ...saved, given });
</script>"""
GIGABYTE = 2**30


@pytest.fixture(scope="module")
def site():
    folder = page_folder()
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.js")}
    frame = b'<!doctype html><title>outer</title><iframe sandbox="allow-scripts" src="/"></iframe>'
    with serving({**files, "index.html": PAGE.encode(), "frame.html": frame}) as site:
        yield site


@pytest.fixture
def page(chromium, site):
    with opened(chromium, site.address, **DESKTOP) as page:
        page.wait_for_function("() => window.given")
        yield page


# ---- opening ----


def choose(page, path):
    with page.expect_file_chooser() as chooser:
        page.click("#open")
    chooser.value.set_files(path)


def test_a_button_opens_a_file_and_the_same_file_again(page, tmp_path):
    file = tmp_path / "ä #1.tflite"
    file.write_bytes(b"abc")
    for count in (1, 2):
        choose(page, file)
        page.wait_for_function(f"() => given.length === {count}")
    assert page.evaluate("() => given") == [["ä #1.tflite", 3]] * 2


READ = """() => import("./keras_seq/source.js")
  .then(({ bytesOf }) => bytesOf(file)).then(() => "read", ({ message }) => message)"""


def test_a_file_of_three_gigabytes_is_refused_before_it_is_read(page, tmp_path):
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(3 * GIGABYTE)
    began = time.monotonic()
    try:
        choose(page, large)
        page.wait_for_function("() => given.length")
        assert page.evaluate("() => given") == [["large.tflite", 3 * GIGABYTE]]
        assert page.evaluate(READ).startswith("large.tflite is too large: a .tflite has at most 2 GiB")
        assert time.monotonic() - began < 5
    finally:
        large.unlink()


@pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_bytes(b"changed")])
def test_a_file_that_changes_or_vanishes_after_it_was_chosen_is_refused(page, tmp_path, change):
    file = tmp_path / "a.tflite"
    file.write_bytes(b"abc")
    choose(page, file)
    page.wait_for_function("() => given.length")
    assert page.evaluate(READ) == "read"
    change(file)
    assert page.evaluate(READ).startswith(
        "a.tflite cannot be read: it is a folder, or it was changed, moved or deleted"
    )


class Drag:
    """A drag from outside of the browser, as the operating system reports it."""

    def __init__(self, page, files=(), text=None):
        self.client = page.context.new_cdp_session(page)
        items = [] if text is None else [{"mimeType": "text/plain", "data": text}]
        self.data = {"items": items, "files": [str(file) for file in files], "dragOperationsMask": 1}

    def send(self, kind, x, y):
        self.client.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": self.data})

    def drop(self, x=300, y=400):
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send(kind, x, y)


def dropped(page, files=(), text=None):
    """Drops something on the page; returns what it gives or says."""
    page.evaluate("() => given.splice(0)")
    Drag(page, files, text).drop()
    page.wait_for_function("() => given.length")
    (given,) = page.evaluate("() => given")
    return given


def test_what_is_dropped_is_one_file_or_a_sentence(page, tmp_path):
    files = [tmp_path / f"{number}.tflite" for number in range(5)]
    for file in files:
        file.write_bytes(b"abc")
    folder = tmp_path / "run.tflite"
    folder.mkdir()
    assert dropped(page, files[:1]) == ["0.tflite", 3]
    assert dropped(page, [folder]) == "run.tflite is a folder. Drop the .tflite file that is in it."
    assert dropped(page, [files[0], folder]).startswith("run.tflite is a folder.")
    several = "Open one .tflite file at a time."
    assert dropped(page, files[:2]) == f"These are 2 files (0.tflite, 1.tflite). {several}"
    assert dropped(page, files) == f"These are 5 files (0.tflite, 1.tflite, 2.tflite, and 2 more). {several}"
    assert dropped(page, text="to be").startswith("This is a text, not a file.")
    assert page.url.count("/") == 3  # The browser has not left the page.


def test_a_text_dropped_into_the_text_field_is_inserted_there(page):
    box = page.locator("#text").bounding_box()
    Drag(page, text="dropped").drop(box["x"] + 5, box["y"] + 5)
    page.wait_for_function("() => document.getElementById('text').value.includes('dropped')")
    assert page.evaluate("() => given") == []


def test_a_file_dropped_on_the_text_field_is_opened(page, tmp_path):
    file = tmp_path / "a.tflite"
    file.write_bytes(b"abc")
    box = page.locator("#text").bounding_box()
    Drag(page, [file]).drop(box["x"] + 5, box["y"] + 5)
    page.wait_for_function("() => given.length")
    assert page.evaluate("() => given") == [["a.tflite", 3]]
    assert page.input_value("#text") == "abc"


def test_the_page_shows_that_a_file_is_held_over_it(page, tmp_path):
    drag = Drag(page, [tmp_path])
    is_over = "() => document.body.classList.contains('over')"
    drag.send("dragEnter", 300, 400)
    drag.send("dragOver", 300, 400)
    page.wait_for_function(is_over)
    page.evaluate("() => dispatchEvent(new DragEvent('dragleave'))")  # Chromium's protocol sends none.
    page.wait_for_function(f"() => !({is_over})()")


def test_the_model_of_an_address(page, site):
    name_at = "(address) => { try { return modelAt(address); } catch ({ message }) { return message; } }"
    for address, name in (("models/a%23b%20%3F.tflite", "a#b ?.tflite"), ("/x/100%.tflite?v=1#top", "100%.tflite")):
        found = page.evaluate(name_at, address)
        assert found["name"] == name
        assert found["source"].startswith(site.address)
    for address, sentence in (
        (
            "https://example.org/a.tflite",
            "This page opens files from its own address only, not from https://example.org.",
        ),
        ("data:,a", "This page opens files from its own address only, not from null."),
        ("http://", "http:// is not an address. Give the address of a .tflite file"),
        ("models/", '"models/" names no file. Give the address of a .tflite file'),
        ("", '"" names no file.'),
    ):
        assert page.evaluate(name_at, address).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"open": "models/a%20b.tflite", "compare": ["models/c.tflite"]}, [["a b.tflite"], ["c.tflite"]]),
        ({"open": "models/a.tflite"}, [["a.tflite"], []]),
        ({}, [[], []]),
        (None, "The list of models (models.json) cannot be loaded: 404 Not Found. Serve the page with keras-seq web."),
        ("[", "The list of models (models.json) is damaged."),
        ("null", "The list of models (models.json) is damaged."),
        ({"open": 5}, "The list of models (models.json) is damaged."),
        ({"compare": "a"}, "The list of models (models.json) is damaged."),
        ({"open": "https://example.org/a.tflite"}, "This page opens files from its own address only"),
    ],
)
def test_the_list_of_models(page, site, content, expected):
    if content is None:
        site.files.pop("models.json", None)
    else:
        site.files["models.json"] = (content if isinstance(content, str) else json.dumps(content)).encode()
    listed = """() => listedModels().then(
      ({ open, compare }) => [open ? [open.name] : [], compare.map(({ name }) => name)], ({ message }) => message)"""
    found = page.evaluate(listed)
    assert found == expected or (isinstance(expected, str) and found.startswith(expected))


# ---- what is kept ----


def test_the_state_survives_a_reload_right_after_a_change(page):
    assert page.evaluate("() => saved()") is None
    page.evaluate(
        "() => { save(() => ({ text: 'old' })); save(() => ({ text: 'To be \U0001f642', spans: [[0, 2]] })); }"
    )
    page.reload()
    page.wait_for_function("() => window.given")
    assert page.evaluate("() => saved()") == {"text": "To be 🙂", "spans": [[0, 2]]}


def test_the_state_is_saved_within_half_a_second_while_changes_go_on(page):
    """A phone may end the page without an event."""
    page.evaluate("() => { let n = 0; setInterval(() => { n++; save(() => ({ n })); }, 20); }")
    page.wait_for_timeout(900)
    assert page.evaluate("() => saved().n") > 5


@pytest.mark.parametrize("damaged", ["{", "", "5", "null", '"text"', "undefined"])
def test_a_damaged_state_is_none(page, damaged):
    page.evaluate("() => { save(() => ({})); dispatchEvent(new Event('pagehide')); }")
    page.evaluate("(value) => localStorage.setItem(Object.keys(localStorage)[0], value)", damaged)
    assert page.evaluate("() => saved()") is None


def test_a_full_storage_keeps_the_last_state_that_fitted(page):
    page.evaluate("() => { save(() => ({ text: 'small' })); dispatchEvent(new Event('pagehide')); }")
    page.evaluate("() => { save(() => ({ text: 'x'.repeat(6e6) })); dispatchEvent(new Event('pagehide')); }")
    assert page.evaluate("() => saved()") == {"text": "small"}


KEPT = "() => savedModel().then(async (it) => it && [it.name, await it.source.text()])"


def test_the_opened_file_survives_a_reload(page):
    assert page.evaluate(KEPT) is None
    for name, content in (("a.tflite", "first"), ("ä/ #%\ud83d\ude42.tflite", "second")):
        assert page.evaluate("([name, content]) => saveModel(name, new Blob([content]))", [name, content])
    page.reload()
    page.wait_for_function("() => window.given")
    assert page.evaluate(KEPT) == ["ä/ #%🙂.tflite", "second"]
    page.evaluate("() => forgetModel()")
    assert page.evaluate(KEPT) is None


def test_a_file_that_does_not_fit_or_vanished_replaces_the_kept_one_by_none(page, site, tmp_path):
    def keep(content="'first'"):
        return page.evaluate(f"() => saveModel('a.tflite', new Blob([{content}]))")

    assert keep()
    client = page.context.new_cdp_session(page)
    origin = site.address.rstrip("/")
    client.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 100_000})
    assert not keep("new Uint8Array(10_000_000)")
    assert page.evaluate(KEPT) is None
    client.send("Storage.overrideQuotaForOrigin", {"origin": origin})
    assert keep()
    vanishing = tmp_path / "b.tflite"
    vanishing.write_bytes(os.urandom(1000))
    choose(page, vanishing)
    page.wait_for_function("() => given.length")
    vanishing.unlink()
    assert not page.evaluate("() => saveModel(file.name, file)")
    assert page.evaluate(KEPT) is None


def test_a_forbidden_storage_is_no_error(page, site):
    """A frame without an origin has no storage: the browser throws, as it does where a person forbids storage."""
    page.goto(f"{site.address}frame.html")
    frame = page.frames[1]
    frame.wait_for_function("() => window.given")
    refused = "() => { try { return localStorage.length; } catch ({ name }) { return name; } }"
    assert frame.evaluate(refused) == "SecurityError"
    assert frame.evaluate(refused.replace("localStorage.length", "caches")) == "SecurityError"
    assert (
        frame.evaluate("() => { save(() => ({ text: 'a' })); dispatchEvent(new Event('pagehide')); return saved(); }")
        is None
    )
    assert frame.evaluate("() => saveModel('a', new Blob(['a']))") is False
    assert frame.evaluate(KEPT) is None
    frame.evaluate("() => forgetModel()")


# ---- the card ----

HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


def test_the_card_is_a_dialog_with_a_name_that_closes_and_gives_the_focus_back(page):
    fill = """(hostile) => {
      const vocabulary = { tokens: ["<s>", "a"], reserved: new Set([0]), level: "char" };
      const card = { name: hostile, corpus: hostile, [hostile]: [hostile], license: hostile, date: hostile };
      const dialog = document.getElementById("card");
      for (let time = 0; time < 2; time++) fillCard(dialog, { card, config: {}, vocabulary, name: hostile, bytes: 1 });
      document.getElementById("open").focus();
      dialog.showModal();
    }"""
    for close in ("escape", "button"):
        page.evaluate(fill, HOSTILE)
        dialog = page.get_by_role("dialog", name=HOSTILE)
        assert dialog.is_visible()
        assert dialog.get_by_role("heading").text_content() == HOSTILE
        assert dialog.locator("img, script").count() == 0
        assert dialog.locator("dd").all_text_contents().count(HOSTILE) == 5
        if close == "escape":
            page.keyboard.press("Escape")
        else:
            dialog.get_by_role("button", name="Close").click()
        page.wait_for_function("() => !document.getElementById('card').open")
        assert page.evaluate("() => document.activeElement.id") == "open"
    assert page.title() == "parts"
