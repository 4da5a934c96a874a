"""The folder of `keras-seq web --output` on Python's http.server, below another address, in Chromium."""

import contextlib
import functools
import http.server
import threading

import pytest

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.page_output import page_output

pytestmark = pytest.mark.slow


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, *_):
        """Logs nothing."""


@contextlib.contextmanager
def hosted(folder):
    """Serves a folder; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


WRITE = """async () => {
  const { KerasSeqWorker } = await import(new URL("keras_seq/worker.js", location.href));
  const { open } = await (await fetch("models.json")).json();
  const model = await KerasSeqWorker.load(open);
  let text = "";
  for await (const piece of model.write("To be", { seed: 5, max_tokens: 30 })) text += piece.text;
  await model.close();
  return text;
}"""


def test_the_folder_runs_below_any_address_and_writes_the_text_of_python(litert, chromium, small_tflite, tmp_path):
    page_output(tmp_path / "demo", small_tflite(), litert)
    context = chromium.new_context()
    page = context.new_page()
    requested, failed, errors = [], [], []
    context.on("response", lambda response: requested.append(response.url))
    context.on("response", lambda response: response.ok or failed.append(response.url))
    page.on("pageerror", lambda error: errors.append(error))
    with hosted(tmp_path) as host:
        with page.expect_response(lambda response: response.url.endswith(".wasm")):  # The page loads LiteRT.js itself.
            page.goto(f"{host}demo/?model=models/{small_tflite().name}")
        text = page.evaluate(WRITE)
        context.close()
    assert text == LiteRTSampler(small_tflite()).sample("To be", seed=5, max_tokens=30)
    assert (failed, errors) == ([], [])
    assert all(address.startswith(f"{host}demo/") for address in requested)
