"""`keras-seq evaluate`: measures a run or a .tflite on held-out text."""

import argparse
import functools
from pathlib import Path
from typing import Any

from keras_seq.cli.options import CORPUS_HELP, add_command, add_source_options
from keras_seq.cli.watched import watched_sampler
from keras_seq.errors import ConfigError

SPLITS = ("held_out", "validation", "test", "train")


def add_parser(commands: Any) -> None:
    """Adds `keras-seq evaluate` to the commands."""
    parser = add_command(commands, "evaluate", "measure a run or a .tflite on held-out text")
    add_source_options(parser)
    text = parser.add_argument_group("text")
    text.add_argument("--corpus", action="append", help=f"{CORPUS_HELP} (default: the corpus of the run)")
    text.add_argument(
        "--split",
        default="held_out",
        choices=SPLITS,
        help="part of the corpus; held_out is validation and test together (default: held_out)",
    )
    text.add_argument(
        "--window",
        type=int,
        default=256,
        help="tokens of each window that is read from the zero state, for the second figure (default: 256, the context of "
        "nanoGPT's character model)",
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints how well the model predicts the text."""
    from keras_seq.cli.corpora import naming_corpus

    with naming_corpus():
        if arguments.model:
            _evaluate_tflite(arguments)
        else:
            _evaluate_run(arguments)


def _evaluate_tflite(arguments: argparse.Namespace) -> None:
    from keras_seq.analysis.evaluate import evaluate_step

    sampler = watched_sampler(arguments.model)
    if not arguments.corpus:
        raise ConfigError("a .tflite does not name its training text: give a text with {}=FILE", "corpus")
    by_line = bool(sampler.config.get("by_line"))
    corpus = _load(arguments.corpus, by_line)
    measure = functools.partial(evaluate_step, sampler, sampler.vocabulary, _split(corpus, arguments.split))
    _print_evaluation(corpus.name, arguments, measure, by_line)


def _evaluate_run(arguments: argparse.Namespace) -> None:
    from keras_seq.analysis.evaluate import evaluate
    from keras_seq.training.run_directory import corpus_of, load_run

    run = load_run(Path(arguments.run))
    by_line = run.config.by_line
    corpus = _load(arguments.corpus, by_line) if arguments.corpus else corpus_of(run.config)
    measure = functools.partial(evaluate, run.model, run.vocabulary, _split(corpus, arguments.split))
    _print_evaluation(corpus.name, arguments, measure, by_line)
    if corpus.name == "agreement":
        _print_agreement(run)


def _load(names: list[str], by_line: bool) -> Any:
    from keras_seq.cli.corpora import read_corpus

    return read_corpus(names, by_line=by_line)


def _split(corpus: Any, split: str) -> str:
    """Returns a part of a corpus; requires that it is not empty."""
    text = corpus.validation + corpus.test if split == "held_out" else corpus.text(split)
    if not text:
        raise ConfigError(
            f"the {split.replace('_', '-')} part of {corpus.name} must not be empty; name a longer {{}} or another {{}}",
            "corpus",
            "split",
        )
    return text


def _print_evaluation(name: str, arguments: argparse.Namespace, measure: Any, by_line: bool) -> None:
    print(f"{name}, {arguments.split}: {measure(by_line)}", flush=True)
    if not by_line:
        window = arguments.window
        print(f"{name}, {arguments.split}, windows of {window} from the zero state: {measure(window=window)}")


def _print_agreement(run: Any) -> None:
    from keras_seq.analysis.agreement_accuracy import DISTANCES, PROBES, accuracy_table, right_verbs
    from keras_seq.data.agreement import agreement_probes

    probes = agreement_probes(PROBES, DISTANCES)
    right = {run.config.cell: right_verbs(run.model, run.vocabulary, probes)}
    print("\n" + "\n".join(accuracy_table(probes, right)))
