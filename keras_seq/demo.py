"""`keras-seq demo`: what a plain RNN forgets and a GRU remembers, and the whole road from a grammar to a .tflite."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_seq.agreement import AgreementSentence, agreement_corpus, agreement_probes
from keras_seq.generation import sample
from keras_seq.gru import GRU, Gates
from keras_seq.plots import plot_agreement, plot_gates
from keras_seq.runs import refuse_existing
from keras_seq.text import KerasStep
from keras_seq.training_run import train
from keras_seq.vocabulary import Vocabulary

SENTENCES = 30_000
DISTANCES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40)
PROBES = 60  # a distance, half of them plural
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
    vocabulary = Vocabulary.from_text(corpus.train, level="word")
    print(f"A grammar of {len(vocabulary)} words, {corpus.train.count(chr(10)):,} sentences to learn from, such as:\n")
    print("  " + "\n  ".join(corpus.train.splitlines()[:3]) + "\n")

    probes = agreement_probes(PROBES, DISTANCES, seed)
    accuracies, models = {}, {}
    for cell, name in NAMES.items():
        print(f"{name} learns:")
        run = train(directory / cell, corpus, vocabulary, {**CONFIG, "cell": cell, "seed": seed})
        models[cell] = run.model
        accuracies[name] = agreement_accuracy(run.model, vocabulary, probes)
    plot_agreement(DISTANCES, accuracies, directory / "agreement.png")
    _print_accuracies(accuracies)
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


def agreement_accuracy(model: keras.Model, vocabulary: Vocabulary, probes: Sequence[AgreementSentence]) -> list[float]:
    """Returns for each distance, in order, the share of probes where the right verb gets the larger logit of the two."""
    right: dict[int, list[bool]] = {}
    by_length: dict[int, list[tuple[AgreementSentence, np.ndarray]]] = {}
    for probe in probes:
        ids = np.concatenate([[vocabulary.start_id], vocabulary.encode(probe.prefix)])
        by_length.setdefault(len(ids), []).append((probe, ids))
    for group in by_length.values():
        last = model.predict_on_batch(np.stack([ids for _, ids in group]).astype(np.int32))[:, -1]
        for (probe, _), logits in zip(group, last, strict=True):
            verb, wrong = (int(vocabulary.encode(word)[0]) for word in (probe.verb, probe.wrong_verb))
            right.setdefault(probe.distance, []).append(bool(logits[verb] > logits[wrong]))
    return [float(np.mean(right[distance])) for distance in sorted(right)]


def _print_accuracies(accuracies: dict[str, list[float]]) -> None:
    print(f"\nwas or were? Right verbs by distance, {PROBES} sentences each; chance is 50 %\n")
    print("  distance " + "".join(f"{distance:>6}" for distance in DISTANCES) + "   20-40")
    far = [index for index, distance in enumerate(DISTANCES) if distance >= 20]
    for name, values in accuracies.items():
        mean = np.mean([values[index] for index in far])
        print(f"  {name:<9}" + "".join(f"{value:>6.0%}" for value in values) + f"{mean:>8.1%}")


def _picture_gates(model: keras.Model, vocabulary: Vocabulary, probe: AgreementSentence, picture: Path) -> None:
    ids = vocabulary.encode(probe.text)
    tokens = np.concatenate([[vocabulary.start_id], ids]).astype(np.int32)
    layer = next(layer for layer in model.layers if isinstance(layer, GRU))
    embedded = model.get_layer("embedding")(tokens[None])
    gates = Gates(*(np.asarray(values[0]) for values in layer.gates(embedded)))
    plot_gates(["<s>", *(vocabulary.tokens[index] for index in ids)], gates, picture)
