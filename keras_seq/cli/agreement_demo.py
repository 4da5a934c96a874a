"""The demo: a SimpleRNN and a GRU learn the agreement grammar; both are exported, and the GRU writes from its .tflite."""

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
from keras_seq.layers.gru import GRU
from keras_seq.layers.gru_cell import Gates
from keras_seq.training.config import TrainConfig
from keras_seq.training.run_directory import refuse_existing
from keras_seq.training.train import train
from keras_seq_export import LiteRTSampler, export_saved_model, export_tflite

SENTENCES = 30_000
CELLS = {"simple_rnn": "SimpleRNN", "gru": "GRU"}
TEXTS = 3  # texts that are compared between Keras and the .tflite


def demo_config(cell: str, seed: int) -> TrainConfig:
    """Returns the configuration of both runs: one pass over the same sentences, with the same settings."""
    return TrainConfig(
        corpus="agreement",
        level="word",
        by_line=True,
        cell=cell,
        units=(128,),
        embedding_dim=32,
        dropout=0.0,
        learning_rate=8e-3,
        warmup=0.0,
        epochs=1,
        seed=seed,
    )


def demo(directory: Path, seed: int = 0) -> None:
    """Runs the demo and leaves everything it makes in `directory`.

    Raises:
        RunError: `directory` exists and is not empty.
    """
    start = time.monotonic()
    refuse_existing(directory)
    models, vocabulary = _train_models(directory, seed)
    reports = _export(models, vocabulary, directory)
    _compare_texts(models["gru"], vocabulary, directory / "gru.tflite")
    _print_summary(directory, reports, time.monotonic() - start)


def _train_models(directory: Path, seed: int) -> tuple[dict[str, keras.Model], Vocabulary]:
    """Trains both models, and prints and draws how often each has the verb right."""
    corpus = agreement_corpus(SENTENCES, seed)
    text = corpus.text("train")
    vocabulary = Vocabulary.from_text(text, level="word")
    print(f"A grammar of {len(vocabulary)} words, {text.count(chr(10)):,} sentences to train on, such as:\n")
    print("  " + "\n  ".join(text.splitlines()[:3]) + "\n")
    probes = agreement_probes(PROBES, DISTANCES, seed)
    right, models = {}, {}
    for cell, name in CELLS.items():
        print(f"{name} trains:")
        models[cell] = train(directory / cell, corpus, vocabulary, demo_config(cell, seed)).model
        right[name] = right_verbs(models[cell], vocabulary, probes)
    plot_agreement(DISTANCES, by_distance(probes, right), directory / "agreement.png")
    print("\n" + "\n".join(accuracy_table(probes, right)))
    _draw_gates(models["gru"], vocabulary, probes[-1], directory / "gates.png")
    return models, vocabulary


def _draw_gates(model: keras.Model, vocabulary: Vocabulary, probe: AgreementSentence, picture: Path) -> None:
    ids = vocabulary.encode(probe.text)
    tokens = np.concatenate([[vocabulary.start_id], ids]).astype(np.int32)
    layer = next(layer for layer in model.layers if isinstance(layer, GRU))
    embedded = model.get_layer("embedding")(tokens[None])
    gates = Gates(*(np.asarray(values[0]) for values in layer.gates(embedded)))
    plot_gates(["<s>", *(vocabulary.tokens[index] for index in ids)], gates, picture)


def _export(models: dict[str, keras.Model], vocabulary: Vocabulary, directory: Path) -> dict[str, dict[str, Any]]:
    """Writes a .tflite of each model and a SavedModel of the GRU; returns the reports of the .tflite by cell."""
    reports = {}
    for cell, name in CELLS.items():
        config = demo_config(cell, seed=0)
        card = {"name": name, "corpus": config.corpus, "cell": cell, "units": list(config.units)}
        path = directory / f"{cell}.tflite"
        reports[cell] = export_tflite(models[cell], vocabulary, path, by_line=True, gates=cell == "gru", card=card)
    export_saved_model(models["gru"], vocabulary, _saved_model(directory))
    return reports


def _saved_model(directory: Path) -> Path:
    return directory / "serving" / "agreement" / "1"


def _compare_texts(model: keras.Model, vocabulary: Vocabulary, tflite: Path) -> None:
    """Prints texts of the same seeds from Keras and from the .tflite."""
    step, sampler = KerasStep(model), LiteRTSampler(tflite)
    print("\nThe GRU writes, from Keras and from the .tflite, one seed after the other:\n")
    same = True
    for seed in range(TEXTS):
        from_keras = sample(step, vocabulary, max_tokens=60, seed=seed)
        from_tflite = sampler.sample(max_tokens=60, seed=seed)
        same &= from_keras == from_tflite
        print(f"  {seed}  Keras   {from_keras.strip()}\n     .tflite {from_tflite.strip()}")
    print(f"\n{'Both write the same text.' if same else 'The texts differ.'}")


def _print_summary(directory: Path, reports: dict[str, dict[str, Any]], seconds: float) -> None:
    rows = [
        (directory / "simple_rnn", "run directory of the SimpleRNN"),
        (directory / "gru", "run directory of the GRU"),
        (directory / "agreement.png", "right verbs by distance, both models and a random guess"),
        (directory / "gates.png", "the GRU's gates over one sentence"),
        (directory / "simple_rnn.tflite", f".tflite of the SimpleRNN, {_size(reports['simple_rnn'])}"),
        (directory / "gru.tflite", f".tflite of the GRU, {_size(reports['gru'])}"),
        (_saved_model(directory), "SavedModel of the GRU for TensorFlow Serving"),
    ]
    width = max(len(str(path)) for path, _ in rows)
    print(f"\nMade in {seconds:.0f} s:\n")
    print("\n".join(f"  {path!s:<{width}}  {what}" for path, what in rows))
    print("\nNext:\n")
    print(f"  keras-seq web --demo={directory}")
    print(f'  keras-seq sample --model={directory / "gru.tflite"} --prompt="the cats, which" --seed=7')
    print(f"  keras-seq evaluate --run={directory / 'gru'}")
    print("  keras-seq train --corpus=YOUR_TEXT.txt --minutes=3")


def _size(report: dict[str, Any]) -> str:
    return f"{report['bytes']:,} bytes, logits within {report['largest_difference']:.1g} of Keras"
