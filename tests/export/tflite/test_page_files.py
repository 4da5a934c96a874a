"""Which files the page has, how imports in its scripts are changed, and the folder that `page_output` writes."""

import hashlib
import json
import os
import shutil

import pytest
from sites import litert_like

from keras_seq.errors import ConfigError
from keras_seq_export.errors import BundleError, ExportError
from keras_seq_export.tflite.page_files import COMPARED, page_files, page_folder
from keras_seq_export.tflite.page_imports import with_addresses
from keras_seq_export.tflite.page_output import page_output

PACKAGES = {"@litertjs/core": "litert/core.js", "@litertjs/wasm-utils": "litert/utils.js"}
CORE = "../litert/core.js"


@pytest.fixture
def modules(tmp_path):
    return litert_like(tmp_path)


@pytest.fixture
def demo(tmp_path, small_tflite):
    """A directory like that of `keras-seq demo`."""
    folder = tmp_path / "demo"
    folder.mkdir()
    for name in COMPARED:
        shutil.copy(small_tflite(), folder / name)
    return folder


# ---- imports ----


@pytest.mark.parametrize(
    ("script", "changed"),
    [
        ('import { a, b } from "@litertjs/core";', f'import {{ a, b }} from "{CORE}";'),
        ("import {\n  a,\n  b as c,\n} from '@litertjs/core'", f"import {{\n  a,\n  b as c,\n}} from '{CORE}'"),
        ('import{a}from"@litertjs/core";b();', f'import{{a}}from"{CORE}";b();'),
        ('import a, * as b from "@litertjs/core"', f'import a, * as b from "{CORE}"'),
        ('import "@litertjs/core";', f'import "{CORE}";'),
        ('export * from "@litertjs/core";', f'export * from "{CORE}";'),
        ('const a = await import("@litertjs/core");', f'const a = await import("{CORE}");'),
        ('import.meta.resolve("@litertjs/core")', f'import.meta.resolve("{CORE}")'),
        ('import "./a.js"; import "@litertjs/core"', f'import "./a.js"; import "{CORE}"'),
    ],
)
def test_a_package_becomes_an_address(script, changed):
    given, added = with_addresses(script, "page/app.js", PACKAGES).split("\n//")
    assert given == changed
    assert "Changed by keras_seq" in added


def test_the_address_is_relative_to_the_script():
    for address, path in (
        ("sw.js", "./litert/core.js"),
        ("litert/b.js", "./core.js"),
        ("a/b/c.js", "../../litert/core.js"),
    ):
        assert with_addresses('import "@litertjs/core"', address, PACKAGES).startswith(f'import "{path}"\n')


@pytest.mark.parametrize(
    "script",
    [
        'import "./a.js"; import b from "../b.js"; export { c } from "/c.js"; import("./d.js"); import.meta.url',
        'import.meta.resolve(name); import(/* any */ script); const reason = "taken from @litertjs/core"',
        '// The states come from "a", and `from "b"` is text.\nconst from = "c"; Array.from("d")',
    ],
)
def test_other_text_stays(script):
    assert with_addresses(script, "page/app.js", PACKAGES) == script


@pytest.mark.parametrize(
    "script", ['import a from "react"', 'import("lit")', 'export * from "node:fs"', 'import "a.js"']
)
def test_another_package_is_refused(script):
    with pytest.raises(
        ExportError, match=r'^page/app\.js imports "[\w:.]+", which a browser cannot find\. Import a path'
    ):
        with_addresses(script, "page/app.js", PACKAGES)


@pytest.mark.parametrize(
    "script",
    [
        "import a from `@litertjs/core`",
        "import(`@litertjs/wasm-utils`)",
        'import a from /* the core */ "@litertjs/core"',
        'import a from // the core\n "@litertjs/core"',
        'import { "string name" as a } from "@litertjs/core"',
        'export { a as "b" } from "@litertjs/core"',
        "import /* don't */ a from '@litertjs/core'",
        'import(/* webpackIgnore: true */ "@litertjs/core")',
        'import(yes ? "@litertjs/core" : "./x.js")',
        'import(/* a part of it */ "@litertjs/core/sub.js")',
        'new Worker("@litertjs/core")',
        'import "@litertjs/core"; new Worker("@litertjs/core")',
    ],
)
def test_a_package_that_would_stay_is_refused(script):
    with pytest.raises(
        ExportError, match=r"^page/app\.js has @litertjs/[\w-]+ in quotes where no import is read\. Name a"
    ):
        with_addresses(script, "page/app.js", PACKAGES)


def test_comments_count():
    """Scripts are not parsed: an import that is a comment is changed or refused as any other."""
    assert with_addresses('// import "@litertjs/core"', "page/app.js", PACKAGES).startswith(f'// import "{CORE}"\n')
    with pytest.raises(ExportError, match='imports "react"'):
        with_addresses('/* import "react" */', "page/app.js", PACKAGES)


# ---- the files ----


def test_a_pnpm_folder_and_an_incomplete_one(modules, tmp_path):
    page_files(page_folder(), modules)
    store = modules / ".pnpm" / "core" / "node_modules"
    store.mkdir(parents=True)
    shutil.move(modules / "@litertjs", store)
    (modules / "@litertjs").mkdir()
    (modules / "@litertjs" / "core").symlink_to(store / "@litertjs" / "core")
    core = store / "@litertjs" / "core"
    files = page_files(page_folder(), modules)
    assert files.content("litert/2.5.3/core/wasm/litert_wasm_internal.js") == core / "wasm" / "litert_wasm_internal.js"
    assert files.content("litert/2.5.3/core/dist/index.js").startswith(b'import{a}from"../../wasm-utils/dist/index.js"')
    wasm = core / "wasm" / "litert_wasm_compat_internal.wasm"
    for spoil in (
        wasm.unlink,
        lambda: wasm.symlink_to(wasm),
        lambda: wasm.symlink_to("/etc/passwd"),
        lambda: os.mkfifo(wasm),
    ):
        wasm.unlink(missing_ok=True)
        if spoil != wasm.unlink:
            spoil()
        with pytest.raises(
            ValueError, match=r"not complete: .*compat_internal\.wasm .*Repeat npm install @litertjs/core$"
        ):
            page_files(page_folder(), modules)


def models_of(files):
    return json.loads(files.content("models.json"))


def test_models_json_names_the_models(modules, demo, small_tflite, tmp_path):
    page = tmp_path / "page"
    shutil.copytree(page_folder(), page, ignore=shutil.ignore_patterns("node_modules", "models"))
    shutil.copy(page_folder().parents[1] / "LICENSE", page)
    assert models_of(page_files(page, modules)) == {}
    (page / "models" / "own").mkdir(parents=True)
    shutil.copy(small_tflite(), page / "models" / "own" / "shakespeare.tflite")
    assert models_of(page_files(page, modules)) == {"open": "models/own/shakespeare.tflite"}
    odd = tmp_path / "a#b ?%20ü.tflite"
    shutil.copy(small_tflite(), odd)
    files = page_files(page, modules, odd, demo)
    compared = ["models/simple_rnn.tflite", "models/gru.tflite"]
    assert models_of(files) == {"open": "models/a%23b%20%3F%2520%C3%BC.tflite", "compare": compared}
    assert files.content(f"models/{odd.name}") == odd
    assert [files.content(address) for address in compared] == [demo / name for name in COMPARED]
    same_name = tmp_path / "shakespeare.tflite"
    shutil.copy(small_tflite(), same_name)
    files = page_files(page, modules, same_name)
    assert models_of(files) == {"open": "models/shakespeare.tflite"}
    assert files.content("models/shakespeare.tflite") == same_name
    assert files.content("models/own/shakespeare.tflite") != same_name


def test_a_file_of_integers_is_refused(modules, small_tflite):
    with pytest.raises(
        BundleError, match=r"has integers only, and LiteRT\.js has no tensors of 16-bit integers: export"
    ):
        page_files(page_folder(), modules, small_tflite(quantization="integer"))


def test_a_model_of_the_demo_may_be_opened_and_another_of_its_name_may_not(modules, demo, small_tflite, tmp_path):
    assert models_of(page_files(page_folder(), modules, demo / "gru.tflite", demo))["open"] == "models/gru.tflite"
    other = tmp_path / "gru.tflite"
    shutil.copy(small_tflite(), other)
    with pytest.raises(ValueError, match=r"^`model` has the same name as .*demo/gru\.tflite: rename it$"):
        page_files(page_folder(), modules, other, demo)
    (demo / "gru.tflite").write_text("to be")
    with pytest.raises(BundleError, match=r"is not a \.tflite file"):
        page_files(page_folder(), modules, None, demo)


def test_a_name_that_is_not_in_utf_8_is_refused(modules, small_tflite, tmp_path):
    latin = tmp_path / os.fsdecode("küsse.tflite".encode("latin-1"))
    shutil.copy(small_tflite(), latin)
    with pytest.raises(ConfigError, match=r"^`model` must have a name in UTF-8, not 'k\\udcfcsse\.tflite': rename it$"):
        page_files(page_folder(), modules, latin)


def test_files_json_has_the_hashes_of_what_makes_a_version(modules, small_tflite, tmp_path):
    files = page_files(page_folder(), modules, small_tflite())
    page_output(tmp_path / "site", small_tflite(), modules)
    hashes = json.loads((tmp_path / "site" / "files.json").read_text())
    assert list(hashes) == sorted(hashes)
    left_out = {"models.json", "files.json", "service-worker.js"}
    written = {
        file.relative_to(tmp_path / "site").as_posix() for file in (tmp_path / "site").rglob("*") if file.is_file()
    }
    assert written == set(files.addresses())
    assert set(hashes) == {name for name in written if not name.startswith("models/")} - left_out
    for name, expected in hashes.items():
        assert hashlib.sha256((tmp_path / "site" / name).read_bytes()).hexdigest() == expected
    wasm = modules / "@litertjs/core/wasm/litert_wasm_internal.wasm"
    wasm.write_text("new")
    changed = json.loads(files.content("files.json"))
    name = "litert/2.5.3/core/wasm/litert_wasm_internal.wasm"
    assert [key for key in hashes if changed[key] != hashes[key]] == [name]


# ---- the folder ----


def test_the_folder_has_the_licenses_and_the_models(modules, demo, small_tflite, tmp_path):
    site = tmp_path / "new" / "site"
    size = page_output(site, small_tflite(), modules, demo)
    assert size == sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    assert (site / "LICENSE").read_bytes() == (page_folder().parents[1] / "LICENSE").read_bytes()
    assert (
        (site / "litert/2.5.3/NOTICE.txt")
        .read_text()
        .startswith("LiteRT.js 2.5.3: @litertjs/core and @litertjs/wasm-utils")
    )
    for address in models_of(page_files(page_folder(), modules, small_tflite(), demo))["compare"]:
        assert (site / address).read_bytes() == small_tflite().read_bytes()
    assert not any(file.is_symlink() for file in site.rglob("*"))


def test_a_folder_that_exists_or_cannot_be_written_is_left_alone(modules, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.txt").write_text("a")
    with pytest.raises(ExportError, match="site exists: choose another name"):
        page_output(tmp_path / "site", None, modules)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written: File exists"):
        page_output(tmp_path / "file" / "site", None, modules)
    assert [file.name for file in (tmp_path / "site").iterdir()] == ["a.txt"]
    assert not list(tmp_path.glob(".partial-*"))
