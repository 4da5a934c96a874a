"""The page's service worker in Chromium, on a small site whose files change."""

import time

import pytest
from browser import opened, wait_for
from changing_site import serving

from keras_seq_export.tflite.page_server import page_folder

INDEX = "<!doctype html><title>-</title><body>{0}<script type=module src=page/app.js></script>"
APP = 'import {{ part }} from "./part.js"; document.title = document.body.textContent.trim() + "{0}" + part;'
REGISTER = "() => navigator.serviceWorker.register('service-worker.js').then(() => null)"
IS_ACTIVE = "() => navigator.serviceWorker.ready.then(({ active }) => active.state === 'activated')"
KEEP = """async (addresses) => {
  const absolute = addresses.map((address) => new URL(address, location.href).href);
  (await navigator.serviceWorker.ready).active.postMessage(absolute);
}"""
KEPT = """async () => {
  const requests = await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()));
  return requests.flat().map(({ url }) => url);
}"""
GET = "(address) => fetch(address).then((it) => it.text(), () => null)"


def version(number):
    return {
        "index.html": INDEX.format(number).encode(),
        "compare.html": f"<!doctype html><title>compare {number}</title>".encode(),
        "page/app.js": APP.format(number).encode(),
        "page/part.js": f'export const part = "{number}";'.encode(),
        "litert/1/wasm/a.wasm": b"\0asm" + bytes(1000),
        "litert/1/wasm/b.wasm": b"\0asm" + bytes(2000),
    }


@pytest.fixture
def site():
    worker = (page_folder() / "service-worker.js").read_bytes()
    models = {"models.json": b"{}", "models/a.tflite": b"first"}
    with serving({**version(1), "service-worker.js": worker, **models}) as site:
        site.list_files()
        yield site


@pytest.fixture
def page(chromium, site):
    """A page after its first visit, in which the service worker has kept the site."""
    with opened(chromium, site.address) as page:
        page.evaluate(REGISTER)
        wait_until_active(page)
        yield page


def wait_until_active(page):
    wait_for(lambda: page.evaluate(IS_ACTIVE), seconds=5)


def wait_until_kept(page, address, kept=True):
    wait_for(lambda: any(address in url for url in page.evaluate(KEPT)) is kept, seconds=5)


def visited(page, address=None):
    """Visits the page; returns its title, which has the version of each file."""
    page.goto(address) if address else page.reload()
    page.wait_for_function("() => document.title !== '-'")
    return page.title()


def test_the_page_opens_without_a_network_after_one_visit(page, site):
    page.evaluate(KEEP, ["litert/1/wasm/a.wasm", "models.json", "models/a.tflite"])
    for address in ("a.wasm", "models.json", "a.tflite"):
        wait_until_kept(page, address)
    site.is_down = True
    assert visited(page) == "111"
    assert visited(page, f"{site.address}?model=models/a.tflite") == "111"
    assert len(page.evaluate(GET, "litert/1/wasm/a.wasm")) == 1004
    assert page.evaluate(GET, "models/a.tflite") == "first"
    assert page.evaluate(GET, "litert/1/wasm/b.wasm") is None  # that of another browser, which is not kept
    assert visited(page, f"{site.address}compare.html") == "compare 1"  # It has never been visited.


def test_an_unchanged_page_is_not_fetched_again(page, site):
    site.requested.clear()
    assert visited(page) == "111"
    assert set(site.requested) <= {"files.json", "service-worker.js"}


def test_a_new_version_is_there_at_the_next_visit_and_the_old_one_is_deleted(page, site):
    site.files |= version(2)
    site.list_files()
    site.requested.clear()
    assert visited(page) == "222"
    assert site.requested.count("page/part.js") == 1
    kept = page.evaluate(KEPT)
    assert sum("part.js" in url for url in kept) == 1


def test_only_changed_files_are_fetched(page, site):
    site.files["page/part.js"] = b'export const part = "2";'
    site.list_files()
    site.requested.clear()
    assert visited(page) == "112"
    assert set(site.requested) <= {"files.json", "service-worker.js", "page/part.js"}


@pytest.mark.parametrize("part", [version(1)["page/part.js"], None], ids=["late", "missing"])
def test_a_visit_never_mixes_versions_while_a_file_of_the_new_one_is_late(page, site, part):
    """As behind a cache that still has one old file, or during an upload."""
    site.files |= version(2)
    site.list_files()
    arrived = site.files["page/part.js"]
    site.files["page/part.js"] = part
    assert visited(page) == "111"
    site.files["page/part.js"] = arrived
    assert visited(page) == "222"


def test_a_network_that_fails_during_an_update_leaves_the_old_version(page, site):
    site.files |= version(2)
    site.list_files()
    site.cut = {"page/part.js"}
    assert visited(page) == "111"
    site.is_down = True
    assert visited(page) == "111"
    site.is_down, site.cut = False, set()
    assert visited(page) == "222"


def test_a_network_that_hangs_delays_a_visit_by_three_seconds(page, site):
    site.files |= version(2)
    site.list_files()
    site.delays = {"page/part.js": 20}
    began = time.monotonic()
    assert visited(page) == "111"
    assert 2.5 < time.monotonic() - began < 6
    site.delays = {}
    assert visited(page) == "222"


def test_visits_at_the_same_time_have_one_version_each(page, site):
    site.files |= version(2)
    site.list_files()
    other = page.context.new_page()
    for one in (page, other):
        one.evaluate(f"() => {{ location.href = '{site.address}?again'; }}")
    for one in (page, other):
        one.wait_for_function("() => document.title === '222'")


def test_a_host_that_redirects_index_html(page, site):
    """Some hosts do; a browser refuses such an answer for a visit."""
    site.files |= version(2)
    site.list_files()
    site.redirects = {"index.html": "/"}
    assert visited(page) == "222"
    site.is_down = True
    assert visited(page) == "222"
    assert visited(page, f"{site.address}index.html") == "222"


def test_models_are_fetched_each_time_and_the_last_eight_are_kept(page, site):
    visited(page)
    assert page.evaluate(GET, "models/a.tflite") == "first"
    site.files["models/a.tflite"] = b"second"
    assert page.evaluate(GET, "models/a.tflite") == "second"
    for number in range(8):
        site.files[f"models/{number}.tflite"] = b"another"
        page.evaluate(GET, f"models/{number}.tflite")
        wait_until_kept(page, f"{number}.tflite")
    wait_until_kept(page, "a.tflite", kept=False)
    site.is_down = True
    assert page.evaluate(GET, "models/7.tflite") == "another"
    assert page.evaluate(GET, "models/a.tflite") is None
    assert page.evaluate(GET, "none") is None


def test_the_runtime_is_kept_when_the_page_asks_for_it(page, site):
    visited(page)
    assert len(page.evaluate(GET, "litert/1/wasm/b.wasm")) == 2004
    wait_until_kept(page, "b.wasm")
    site.requested.clear()
    assert len(page.evaluate(GET, "litert/1/wasm/b.wasm")) == 2004
    assert "litert/1/wasm/b.wasm" not in site.requested


def test_it_deletes_its_own_old_caches_only(chromium, site):
    other = f"keras_seq-1 page {site.address}elsewhere/"
    old = ["keras_seq-1", f"keras_seq-1 page {site.address}"]
    with opened(chromium, site.address) as page:
        page.evaluate("(all) => Promise.all(all.map((it) => caches.open(it))).then(() => null)", [*old, other, "x"])
        page.evaluate(REGISTER)
        wait_until_active(page)
        names = page.evaluate("() => caches.keys()")
    assert sorted(names) == sorted([other, "x", f"keras_seq-2 page {site.address}"])


def test_without_a_list_of_files_the_page_works_on_line_only(chromium, site):
    del site.files["files.json"]
    register = """async () => {
      const { installing } = await navigator.serviceWorker.register("service-worker.js");
      return new Promise((resolve) => installing.addEventListener("statechange", () => resolve(installing.state)));
    }"""
    with opened(chromium, site.address) as page:
        assert page.evaluate(register) == "redundant"
        assert visited(page) == "111"
