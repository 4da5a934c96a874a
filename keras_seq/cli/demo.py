"""`keras-seq demo`: what a plain RNN forgets and a GRU remembers, and the whole road from a grammar to a .tflite."""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_seq.analysis.agreement_accuracy import DISTANCES, PROBES, accuracy_table, by_distance, right_verbs
from keras_seq.analysis.plots import plot_agreement, plot_gates
from keras_seq.data.agreement import AgreementSentence, agreement_corpus, agreement_probes
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.generation import sample
from keras_seq.generation.keras_step import KerasStep
from keras_seq.layers.gru import GRU, Gates
from keras_seq.training.run_directory import refuse_existing
from keras_seq.training.train import train

SENTENCES = 30_000
NAMES = {"simple_rnn": "SimpleRNN", "gru": "GRU"}
# Both cells get the same sentences, once each, and the same settings.
CONFIG: dict[str, Any] = {
    "corpus": "agreement",
    "by_line": True,
    "units": [128],
    "embedding_dim": 32,
    "dropout": 0.0,
    "batch_size": 64,
    "length": 64,
    "learning_rate": 8e-3,
    "clipping": {"clipnorm": 1.0},
    "epochs": 1,
    "minutes": None,
}


def demo(directory: Path, seed: int = 0) -> None:
    """Runs the demo and leaves everything it made in `directory`.

    Raises:
        RunError: `directory` exists and is not empty.
    """
    from keras_seq_export import LiteRTSampler, export_saved_model, export_tflite

    start = time.monotonic()
    refuse_existing(directory)
    corpus = agreement_corpus(SENTENCES, seed)
    text = corpus.text("train")
    vocabulary = Vocabulary.from_text(text, level="word")
    print(f"A grammar of {len(vocabulary)} words, {text.count(chr(10)):,} sentences to learn from, such as:\n")
    print("  " + "\n  ".join(text.splitlines()[:3]) + "\n")

    probes = agreement_probes(PROBES, DISTANCES, seed)
    right, models = {}, {}
    for cell, name in NAMES.items():
        print(f"{name} learns:")
        run = train(directory / cell, corpus, vocabulary, {**CONFIG, "cell": cell, "seed": seed})
        models[cell] = run.model
        right[name] = right_verbs(run.model, vocabulary, probes)
    plot_agreement(DISTANCES, by_distance(probes, right), directory / "agreement.png")
    print("\n" + "\n".join(accuracy_table(probes, right)))
    _picture_gates(models["gru"], vocabulary, probes[-1], directory / "gates.png")

    tflite, saved_model = directory / "agreement.tflite", directory / "serving" / "agreement" / "1"
    report = export_tflite(models["gru"], vocabulary, tflite, by_line=True)
    export_saved_model(models["gru"], vocabulary, saved_model)
    step, sampler = KerasStep(models["gru"]), LiteRTSampler(tflite)
    print("\nThe GRU writes, from Keras and from the .tflite, seed by seed:\n")
    same = True
    for number in range(3):
        from_keras = sample(step, vocabulary, max_tokens=60, seed=number)
        from_tflite = sampler.sample(max_tokens=60, seed=number)
        same &= from_keras == from_tflite
        print(f"  {number}  Keras   {from_keras.strip()}\n     .tflite {from_tflite.strip()}")
    print(f"\n{'The same text from both.' if same else 'The texts differ.'}")

    rows = [
        (directory / "simple_rnn", "run directory of the SimpleRNN"),
        (directory / "gru", "run directory of the GRU"),
        (directory / "agreement.png", "right verbs by distance, both models beside chance"),
        (directory / "gates.png", "the GRU's gates over one sentence"),
        (
            tflite,
            f".tflite for LiteRT, {report['bytes']:,} bytes, logits within {report['largest_difference']:.1g} of Keras",
        ),
        (saved_model, "SavedModel for TensorFlow Serving"),
    ]
    width = max(len(str(path)) for path, _ in rows)
    print(f"\nMade in {time.monotonic() - start:.0f} s:\n")
    print("\n".join(f"  {path!s:<{width}}  {what}" for path, what in rows))
    print("\nNext:\n")
    print(f'  keras-seq sample --model={tflite} --prompt="the cats, which" --seed=7')
    print(f"  keras-seq evaluate --run={directory / 'gru'}")
    print("  keras-seq train --corpus=YOUR_TEXT.txt --minutes=3")


def _picture_gates(model: keras.Model, vocabulary: Vocabulary, probe: AgreementSentence, picture: Path) -> None:
    ids = vocabulary.encode(probe.text)
    tokens = np.concatenate([[vocabulary.start_id], ids]).astype(np.int32)
    layer = next(layer for layer in model.layers if isinstance(layer, GRU))
    embedded = model.get_layer("embedding")(tokens[None])
    gates = Gates(*(np.asarray(values[0]) for values in layer.gates(embedded)))
    plot_gates(["<s>", *(vocabulary.tokens[index] for index in ids)], gates, picture)
