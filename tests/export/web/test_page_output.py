"""The folder of `keras-seq web --output` on Python's http.server, below another address, in Chromium."""

from browser import opened
from sites import served_folder

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite.page_output import page_output

WRITE = """async () => {
  const { KerasSeqWorker } = await import(new URL("keras_seq/worker.js", location.href));
  const { open } = await (await fetch("models.json")).json();
  const model = await KerasSeqWorker.load(open);
  let text = "";
  for await (const piece of model.write("To be", { seed: 5, max_tokens: 30 })) text += piece.text;
  await model.close();
  return text;
}"""


def test_the_folder_runs_below_any_address_and_writes_the_text_of_python(litert, chromium, model, tmp_path):
    page_output(tmp_path / "demo", model, litert)
    with served_folder(tmp_path) as (host, missing):
        with opened(chromium, f"{host}demo/?model=models/{model.name}") as page:
            page.wait_for_selector("#write:not(:disabled)")  # The page has loaded LiteRT.js itself.
            text = page.evaluate(WRITE)
        assert missing == []
    assert text == LiteRTSampler(model).sample("To be", seed=5, max_tokens=30)
