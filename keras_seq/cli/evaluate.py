"""`keras-seq evaluate`: measures a run or a .tflite on held-out text."""

import argparse
import functools
from pathlib import Path
from typing import Any

from keras_seq.cli.learned import add_learned_option, refuse_learned_of_run, sampler_of
from keras_seq.cli.options import CORPUS_HELP, add_command, add_source_options
from keras_seq.errors import ConfigError

SPLITS = ("held_out", "validation", "test", "train")
WINDOW = 256  # tokens; the context of nanoGPT's character model


def add_parser(commands: Any) -> None:
    """Adds `keras-seq evaluate` to the commands."""
    parser = add_command(commands, "evaluate", "measure a run or a .tflite on held-out text")
    add_source_options(parser)
    add_learned_option(parser)
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
        help="tokens of each window that is read from the zero state, for the second figure (default: 256, the context of "
        "nanoGPT's character model)",
    )
    text.add_argument(
        "--keyboard",
        action="store_true",
        help="type the text with the suggestions of a .tflite, as on a phone, and compare them with those of an n-gram model "
        "of the training part (default: nats per token)",
    )
    text.add_argument(
        "--dynamic",
        action="store_true",
        help="evaluate the model of a run also while it learns from the text that it has read (default: as trained alone)",
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints how well the model predicts the text."""
    from keras_seq.cli.corpora import naming_corpus

    refuse_learned_of_run(arguments)
    if arguments.dynamic:
        _require_dynamic(arguments)
    with naming_corpus():
        if arguments.keyboard:
            _use_keyboard(arguments)
        elif arguments.model:
            _evaluate_tflite(arguments)
        else:
            _evaluate_run(arguments)


def _require_dynamic(arguments: argparse.Namespace) -> None:
    """Requires options that do not contradict `--dynamic`."""
    if arguments.model:
        raise ConfigError(
            "{} needs the weights of a run: give it with {}; a .tflite learns with `keras-seq learn`", "dynamic", "run"
        )
    if arguments.window is not None:
        raise ConfigError("{} reads the text as a whole, so it has no windows: leave {} out", "dynamic", "window")
    if arguments.keyboard:
        raise ConfigError("{} and {} cannot be combined", "dynamic", "keyboard")


def _evaluate_tflite(arguments: argparse.Namespace) -> None:
    from keras_seq.analysis.evaluate import evaluate_step

    sampler = sampler_of(arguments)
    corpus, by_line = _corpus_of(sampler, arguments)
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
    if arguments.dynamic:
        typical = None if arguments.corpus else corpus.train
        result = _dynamic(run, measure, by_line, typical)
        print(f"{corpus.name}, {arguments.split}, dynamic evaluation: {result}")
    if corpus.name == "agreement":
        _print_agreement(run)


def _dynamic(run: Any, measure: Any, by_line: bool, training_text: Any) -> Any:
    """Returns the evaluation of a model that learns from the text.

    Args:
        run: the run.
        measure: `evaluate`, with the model and the text.
        by_line: whether the text is read by line.
        training_text: the text of the run; None for another one, which may have characters that the model does not know.
    """
    from keras_seq.analysis.dynamic_evaluation import DynamicEvaluation

    uses_text = DynamicEvaluation().for_level(run.vocabulary.level).rule == "rms"
    return measure(by_line, dynamic=True, training_text=training_text if uses_text else None)


def _use_keyboard(arguments: argparse.Namespace) -> None:
    from keras_seq.analysis.keyboard import SHOWN, baseline, keyboard_table, use_keyboard

    if arguments.run:
        raise ConfigError(
            "{} searches words before each keystroke, for which the steps of a run are too slow: export the run with "
            "`keras-seq export`, and give the .tflite with {}",
            "keyboard",
            "model",
        )
    if arguments.window is not None:
        raise ConfigError("{} has no windows: leave {} out", "keyboard", "window")
    if arguments.split == "train":
        raise ConfigError(
            "{}=train cannot be combined with {}, whose n-gram model knows this part by heart", "split", "keyboard"
        )
    sampler = sampler_of(arguments)
    if sampler.vocabulary.level == "char" and sampler.config["state"] == "internal":
        raise ConfigError(
            "{} goes back to earlier states at each keystroke, which a .tflite of characters with internal states can only do "
            "by reading the text again: export it with `keras-seq export --state=explicit`",
            "keyboard",
        )
    corpus, by_line = _corpus_of(sampler, arguments)
    text = _split(corpus, arguments.split)
    counted, words = baseline(sampler.vocabulary, corpus.text("train"), by_line)
    uses = {}
    learned = f" with {Path(arguments.learned).name}" if arguments.learned else ""
    for name, step, vocabulary in (
        (Path(arguments.model).name + learned, sampler, sampler.vocabulary),
        (counted.name, counted, words),
    ):
        with _progress(name, len(text)) as progress:
            uses[name] = use_keyboard(step, vocabulary, text, by_line, progress=progress.update)
    print(f"{corpus.name}, {arguments.split}: typed with {SHOWN} suggestions\n\n" + "\n".join(keyboard_table(uses)))


def _progress(name: str, characters: int) -> Any:
    """Returns a progress bar, which is shown only in a terminal."""
    import tqdm

    return tqdm.tqdm(desc=name, total=characters, unit=" characters", unit_scale=True, disable=None)


def _corpus_of(sampler: Any, arguments: argparse.Namespace) -> tuple[Any, bool]:
    """Returns the corpus that is named beside a .tflite, and whether the model reads it by line."""
    if not arguments.corpus:
        raise ConfigError("a .tflite does not name its training text: give a text with {}=FILE", "corpus")
    by_line = bool(sampler.config.get("by_line"))
    return _load(arguments.corpus, by_line), by_line


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
        window = WINDOW if arguments.window is None else arguments.window
        print(f"{name}, {arguments.split}, windows of {window} from the zero state: {measure(window=window)}")


def _print_agreement(run: Any) -> None:
    from keras_seq.analysis.agreement_accuracy import DISTANCES, PROBES, accuracy_table, right_verbs
    from keras_seq.data.agreement import agreement_probes

    probes = agreement_probes(PROBES, DISTANCES)
    right = {run.config.cell: right_verbs(run.model, run.vocabulary, probes)}
    print("\n" + "\n".join(accuracy_table(probes, right)))
