"""An app that has installed the npm package of export/web as its users do, and what runs it: Node, and bundlers for a page."""

import json
import re
import shutil
import subprocess

import paths
from devices import need_program
from npm import npm_install

from keras_seq_export.tflite.page_files import page_folder


def run(*command, cwd, **options):
    """Runs a program that must succeed; returns what it printed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def install_app(folder):
    """Installs the package with two bundlers and TypeScript into an empty folder; returns the folder."""
    need_program("npm", "npm")
    run("npm", "pack", "--silent", "--pack-destination", folder, cwd=page_folder())
    (package,) = folder.glob("*.tgz")
    assert package.stat().st_size < 60_000
    assert not (page_folder() / "LICENSE").exists()  # only in the package
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    npm_install(folder, package, "esbuild@0.28", "vite@8", "typescript@7", "@types/node@20")
    for name in ("web_model.mjs", "web_node.mjs"):
        shutil.copy(paths.SUPPORT / name, folder)
    return folder


def in_node(app, path, *asked, relaxed=False):
    """Runs tasks of web_model.mjs in Node; no tensor may be left."""
    command = ["node", *(["--experimental-wasm-relaxed-simd"] if relaxed else []), "web_node.mjs"]
    found = json.loads(run(*command, cwd=app, input=json.dumps([str(path), asked])))
    assert found["left"] == 0
    assert found["held"] < 60  # the states of texts that `suggest` has read, and settings
    assert found["most"] > 5
    return found["answers"]


def as_json(options):
    """Returns options of `write`, of which the seed becomes text: JSON has no 64-bit integers."""
    return {**options, "seed": str(options["seed"])} if "seed" in options else options


PAGE = """<!doctype html><meta charset="utf-8"><title>-</title><p id="text"></p><input type="file">
<script type="module" src="./app.js"></script>"""


def bundled(app, tool, code, model, folder):
    """Bundles an app; returns the folder with it, the wasm and the model, to be served."""
    (folder / "app.js").write_text(code)
    (folder / "index.html").write_text(PAGE)
    (folder / "node_modules").symlink_to(app / "node_modules")
    (copy,) = re.findall(r"The wasm: `(.*?)`", (page_folder() / "README.md").read_text())
    run("bash", "-c", copy, cwd=folder)
    shutil.copy(model, folder / "public/shakespeare.tflite")
    if tool == "vite":
        (folder / "vite.config.js").write_text('export default { build: { target: "es2022" }, base: "./" };')
        run(app / "node_modules/.bin/vite", "build", "--logLevel=warn", cwd=folder)
        return folder / "dist"
    shutil.copy(folder / "index.html", folder / "public")
    command = ["app.js", "thread=keras_seq/worker_thread", "--bundle", "--format=esm", "--outdir=public"]
    assert run(app / "node_modules/.bin/esbuild", *command, "--log-level=warning", cwd=folder) == ""
    return folder / "public"
