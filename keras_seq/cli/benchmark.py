"""`keras-seq benchmark`: measures speed and quality beside other libraries, on this machine."""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_seq.cli.options import TRUSTED_NETWORK_HELP, add_command, add_json_option, given_options, integers


def add_parser(commands: Any) -> None:
    """Adds `keras-seq benchmark` to the commands, and its subjects."""
    parser = add_command(commands, "benchmark", "measure speed and quality beside other libraries, on this machine")
    subjects = parser.add_subparsers(required=True, metavar="SUBJECT")
    parser.set_defaults(subjects=subjects)
    for add_subject in (_layer, _decode, _sample, _serve, _corpus, _distribute, _identity, _memory, _learning):
        add_subject(subjects)
    for subject in subjects.choices.values():
        add_json_option(subject)


def _add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument("--rounds", type=int, help=f"turns of each contender (default: {default})")


def _print_figures(figures: Any, table: Callable[[Any], Iterable[str]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(_plain(figures), indent=2))
        return
    for line in table(figures):
        print(line, flush=True)


def _plain(figures: Any) -> Any:
    """Returns figures as JSON can hold them: a number that is not finite becomes None."""
    if hasattr(figures, "_asdict"):
        figures = figures._asdict()
    elif dataclasses.is_dataclass(figures):
        figures = vars(figures)
    if isinstance(figures, Mapping):
        return {name: _plain(value) for name, value in figures.items()}
    if isinstance(figures, float) and not math.isfinite(figures):
        return None
    if isinstance(figures, Iterable) and not isinstance(figures, str):
        return list(map(_plain, figures))
    return figures


def _layer(subjects: Any) -> None:
    parser = add_command(
        subjects,
        "layer",
        "forward and backward pass of the recurrent layers beside those of Keras and, if installed, of PyTorch and JAX",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--sizes",
        help="batch, length, features and units, such as 64x100x128x256,1x1000x64x256 (default: five sizes)",
    )
    choice.add_argument(
        "--all",
        action="store_true",
        help="32 cases: sizes, lengths, masks, wrappers, arguments, layers and inference (default: five sizes)",
    )
    choice.add_argument(
        "--first_fit",
        action="store_true",
        help="the first fit of six models instead, compilation included (default: five sizes)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help="turns of each contender (default: 15); for the first fit, fits with each layer (default: 5)",
    )
    parser.set_defaults(run_command=_run_layer)


def _run_layer(arguments: argparse.Namespace) -> None:
    given = given_options(arguments, "rounds")
    if arguments.first_fit:
        from keras_seq.benchmarks import first_fit

        _print_figures(first_fit.benchmark_first_fit(**given), first_fit.table, arguments.json)
        return
    from keras_seq.benchmarks import layer, layer_cases

    if arguments.all:
        given["cases"] = layer_cases.ALL_CASES
    elif arguments.sizes:
        given["cases"] = layer_cases.plain(*arguments.sizes.split(","))
    _print_figures(layer.benchmark_layer(**given), layer.table, arguments.json)


def _decode(subjects: Any) -> None:
    parser = add_command(
        subjects, "decode", "one token in our .tflite beside TensorFlow and, if installed, ONNX Runtime and PyTorch"
    )
    _add_rounds(parser, 15)
    parser.set_defaults(run_command=_run_decode)


def _run_decode(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import litert_decode

    _print_figures(
        litert_decode.benchmark_decode(**given_options(arguments, "rounds")), litert_decode.table, arguments.json
    )


def _sample(subjects: Any) -> None:
    from keras_seq_export.signatures import WITH_SAMPLE

    parser = add_command(subjects, "sample", "sampling of a token in LiteRT beside the step of the model")
    parser.add_argument("--quantization", choices=WITH_SAMPLE, help="weights of the model (default: int8)")
    _add_rounds(parser, 15)
    parser.set_defaults(run_command=_run_sample)


def _run_sample(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import litert_sample

    rows = litert_sample.benchmark_sample(**given_options(arguments, "quantization", "rounds"))
    _print_figures(rows, litert_sample.table, arguments.json)


def _serve(subjects: Any) -> None:
    parser = add_command(
        subjects, "serve", "a SavedModel in TensorFlow's C++ session: texts at several batch sizes, and many clients"
    )
    parser.add_argument(
        "--model", type=Path, help="directory of a version, such as serving/shakespeare/1 (default: a GRU of 512 units)"
    )
    _add_rounds(parser, 5)
    parser.set_defaults(run_command=_run_serve)


def _run_serve(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import serving

    figures = serving.benchmark_serve(**given_options(arguments, "model", "rounds"))
    _print_figures(figures, serving.table, arguments.json)


def _corpus(subjects: Any) -> None:
    parser = add_command(
        subjects,
        "corpus",
        "encoding of a text on disk and training on it: throughput, memory, and how long a step waits for its batch",
    )
    parser.add_argument("--corpus", action="append", help="text file (default: sentences of the built-in grammar)")
    parser.add_argument("--megabytes", type=int, help="megabytes of these sentences (default: 100)")
    parser.add_argument("--steps", type=int, help="training steps for each kind (default: 100)")
    parser.set_defaults(run_command=_run_corpus)


def _run_corpus(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import corpus

    rows = corpus.benchmark_corpus(**given_options(arguments, "corpus", "megabytes", "steps"))
    _print_figures(rows, corpus.table, arguments.json)


def _distribute(subjects: Any) -> None:
    parser = add_command(
        subjects, "distribute", "a training step alone and with a second worker, and a model of what many workers pay"
    )
    parser.add_argument("--steps", type=int, help="training steps (default: 30)")
    parser.add_argument("--trusted_network", action="store_true", default=None, help=TRUSTED_NETWORK_HELP)
    parser.set_defaults(run_command=_run_distribute)


def _run_distribute(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import distribution

    cost = distribution.benchmark_distribute(**given_options(arguments, "steps", "trusted_network"))
    _print_figures(cost, distribution.table, arguments.json)


def _identity(subjects: Any) -> None:
    parser = add_command(subjects, "identity", "whether one seed gives one text in Keras, the SavedModel and LiteRT")
    parser.add_argument("--run", required=True, help="run directory (required)")
    parser.add_argument("--texts", type=int, help="texts to write with each (default: 1000)")
    parser.add_argument("--max_tokens", type=int, help="tokens of each text (default: 200)")
    parser.set_defaults(run_command=_run_identity)


def _run_identity(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks.identity import compare_runtimes
    from keras_seq.training.run_directory import corpus_of, load_run
    from keras_seq_export import ExportError

    run = load_run(Path(arguments.run))
    corpus = corpus_of(run.config)
    text = corpus.validation + corpus.test
    options = given_options(arguments, "texts", "max_tokens")
    comparison = compare_runtimes(run.model, run.vocabulary, text, **options)
    _print_figures(comparison, lambda one: [str(one)], arguments.json)
    if not all(difference.is_near_tie for difference in comparison.differences):
        raise ExportError("the runtimes must write the same texts, near-ties excepted; they do not")


def _memory(subjects: Any) -> None:
    parser = add_command(
        subjects, "memory", "over how many steps a GRU learns to remember, by the initial value of its bias"
    )
    parser.add_argument("--distances", type=integers, help="steps, with commas between (default: 10,25,50,100,200)")
    parser.add_argument("--seed", type=int, help="seed of the weights and of the sequences (default: 0)")
    parser.set_defaults(run_command=_run_memory)


def _run_memory(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import long_memory

    rows = long_memory.benchmark_memory(**given_options(arguments, "distances", "seed"))
    _print_figures(rows, long_memory.table, arguments.json)


def _learning(subjects: Any) -> None:
    parser = add_command(
        subjects, "learning", "what a .tflite gains by learning from texts of several authors, and what it costs"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--run",
        help="run directory, to be exported; its held-out text is an author too (no default: give --run or --model)",
    )
    source.add_argument(
        "--model",
        action="append",
        help=".tflite file; several are compared, and the last one that learns is measured most (no default: give --run or "
        "--model)",
    )
    parser.add_argument(
        "--corpus",
        action="append",
        required=True,
        help="text file of one author; may be given several times (required)",
    )
    parser.add_argument("--picture", type=Path, help=".png file for the curves (default: no picture)")
    _add_rounds(parser, 15)
    parser.set_defaults(run_command=_run_learning)


def _run_learning(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import learning
    from keras_seq.cli.corpora import read_corpus

    corpora = [read_corpus([name], validation=0, test=0) for name in arguments.corpus]
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < len(names):  # Files in different folders may have one name.
        names = arguments.corpus
    texts = {name: corpus.text("train") for name, corpus in zip(names, corpora, strict=True)}
    options = given_options(arguments, "picture", "rounds")
    if arguments.run:
        measurements = learning.benchmark_learning_of_run(Path(arguments.run), texts, **options)
    else:
        measurements = learning.benchmark_learning([Path(name) for name in arguments.model], texts, **options)
    _print_figures(dict(measurements) if arguments.json else measurements, learning.table, arguments.json)
