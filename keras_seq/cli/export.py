"""`keras-seq export`: writes a .tflite and a SavedModel of a run, or a C header."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_seq.cli.options import CORPUS_HELP, add_command, given_options
from keras_seq.errors import ConfigError

if TYPE_CHECKING:
    from keras_seq.training.run_directory import Run

FORMATS = ("tflite", "saved_model", "all", "c")
_OF_C = {
    "quantization": "takes integers only",
    "state": "holds the states",
    "batch": "takes one row",
    "gates": "has no gates",
    "learn": "does not learn",
}
_OF_TFLITE = ("license", "quantization", "state", "batch", "temperature", "gates", "learn", "max_loss", "corpus")


def add_parser(commands: Any) -> None:
    """Adds `keras-seq export` to the commands."""
    from keras_seq_export.signatures import QUANTIZATIONS, STATES

    parser = add_command(commands, "export", "write a .tflite and a SavedModel of a run")
    files = parser.add_argument_group("files")
    files.add_argument("--run", required=True, help="run directory (required)")
    files.add_argument(
        "--format",
        default="all",
        choices=FORMATS,
        help="what to write; all is a .tflite and a SavedModel, c a header for the C decoder without a runtime, in integers "
        "(default: all)",
    )
    files.add_argument(
        "--output",
        help="directory to write NAME.tflite (or such as NAME.int8.tflite), NAME.h and NAME/1, NAME/2, ... into, where NAME is "
        "that of the run directory (default: export in the run directory)",
    )
    files.add_argument("--license", help="license of the model for its card, such as CC0-1.0 (default: not stated)")
    tflite = parser.add_argument_group("the .tflite")
    tflite.add_argument(
        "--quantization",
        choices=list(QUANTIZATIONS),
        help="float16 halves the file, int8 makes it a quarter, int4 a sixth, but tables of n-grams a quarter; integer makes "
        "it a quarter without floating-point numbers, for microcontrollers (default: none)",
    )
    tflite.add_argument(
        "--state",
        choices=STATES,
        help="states as inputs and outputs, or as variables with a signature reset (default: explicit)",
    )
    tflite.add_argument("--batch", type=int, help="rows that it takes at once (default: 1)")
    tflite.add_argument("--temperature", type=float, help="temperature that it is sampled with by default (default: 1)")
    tflite.add_argument(
        "--gates",
        action="store_true",
        help="add the signature gates: what the GRU keeps of its memory at each step (default: without)",
    )
    tflite.add_argument(
        "--learn",
        action="store_true",
        help="add the signatures with which the model learns from the texts of its user on the device, as keras-seq learn "
        "does (default: without)",
    )
    tflite.add_argument("--max_loss", type=float, help="nats per token that quantization may cost (default: 0.01)")
    tflite.add_argument(
        "--corpus",
        action="append",
        help=f"text whose last tenth the .tflite is measured on: {CORPUS_HELP} (default: the corpus of the run)",
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes the exports and prints what was verified."""
    from keras_seq.training.run_directory import load_run
    from keras_seq_export import ExportError
    from keras_seq_export.saved_model.serving_files import next_version

    if arguments.format == "saved_model":
        _refuse_options_of_tflite(arguments)
    if arguments.format == "c":
        _refuse_other_than_integers(arguments)
    if arguments.output and Path(arguments.output).suffix in (".tflite", ".h"):
        raise ConfigError(
            f"{{}} must be a directory, in which the file gets the name of the run. Received: {arguments.output}",
            "output",
        )
    run = load_run(Path(arguments.run))
    output = Path(arguments.output) if arguments.output else run.directory / "export"
    name = run.directory.resolve().name
    targets = {
        "tflite": output / f"{name}{_marks(arguments)}.tflite",
        "saved_model": next_version(output / name),
    }
    if arguments.format == "c":
        targets = {"c": output / f"{name}.h"}
    wanted = {kind: target for kind, target in targets.items() if arguments.format in (kind, "all")}
    for target in wanted.values():
        if target.exists():
            raise ExportError(f"{target} exists: choose another --output, or remove it first")
    if "tflite" in wanted:
        _export_tflite(run, wanted["tflite"], arguments)
    if "saved_model" in wanted:
        _export_saved_model(run, wanted["saved_model"])
    if "c" in wanted:
        _export_c(run, wanted["c"], arguments)
    if arguments.learn:
        if "saved_model" in wanted:
            print("The SavedModel does not learn; the .tflite does.")
        model = shlex.quote(str(wanted["tflite"]))
        print(f"\nNext:\n  keras-seq learn --model={model} --corpus=FILE --learned=me.learned")


def _refuse_options_of_tflite(arguments: argparse.Namespace) -> None:
    for name, value in given_options(arguments, *_OF_TFLITE).items():
        if value is not False:  # --gates and --learn have this value where they are not given.
            raise ConfigError(
                "{} is about the .tflite, which {}=saved_model does not write: leave it out, or choose {}=tflite",
                name,
                "format",
                "format",
            )


def _refuse_other_than_integers(arguments: argparse.Namespace) -> None:
    from keras_seq_export.signatures import INTEGER

    given = given_options(arguments, "quantization", "state", "batch", "gates", "learn")
    fixed = {"quantization": INTEGER, "state": "explicit", "batch": 1, "gates": False, "learn": False}
    for name, value in given.items():
        if value != fixed[name]:
            raise ConfigError(f"{{}} must be left out with {{}}=c: the C decoder {_OF_C[name]}", name, "format")


def _marks(arguments: argparse.Namespace) -> str:
    """Returns what the name of a .tflite says of its options, such as `.int8.batch8`."""
    from keras_seq_export.signatures import is_quantized

    marks = ""
    if arguments.quantization and is_quantized(arguments.quantization):
        marks += f".{arguments.quantization}"
    if arguments.state == "internal":
        marks += ".internal"
    if arguments.batch not in (None, 1):
        marks += f".batch{arguments.batch}"
    if arguments.gates:
        marks += ".gates"
    if arguments.learn:
        marks += ".learn"
    return marks


def _export_tflite(run: "Run", target: Path, arguments: argparse.Namespace) -> None:
    from keras_seq.cli.corpora import naming_corpus
    from keras_seq_export import export_tflite

    options = _options_of_model(run, arguments)
    with naming_corpus():
        report = export_tflite(
            run.model,
            run.vocabulary,
            target,
            gates=arguments.gates,
            learn=arguments.learn,
            **options,
            **given_options(arguments, "quantization", "state", "batch"),
        )
    print(f"{target}: {report['bytes']:,} bytes, {_describe_quality(report)}")
    if runtimes := report.get("proved_in"):
        print(f"  equal bit for bit over {report['proved_steps']} steps in {', '.join(runtimes)}")
    if "arena_bytes" in report:
        print(f"  arena of TensorFlow Lite for Microcontrollers: {report['arena_bytes']:,} bytes")
    print(f"  report: {target}.report.json")
    print(f"  operators, sizes and vocabulary: keras-seq inspect {shlex.quote(str(target))}")


def _options_of_model(run: "Run", arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what the exports of a .tflite and of a C header take alike."""
    from keras_seq.cli.corpora import corpus_name

    held_out, measured_on = _held_out(run, arguments.corpus)
    card = {
        "name": run.directory.resolve().name,
        "corpus": corpus_name(run.config.corpus),
        **measured_on,
        "cell": run.config.cell,
        "units": list(run.config.units),
        **({"ngrams": run.config.ngrams} if run.config.ngrams else {}),
        **given_options(arguments, "license"),
    }
    return {
        "sampling": given_options(arguments, "temperature"),
        "by_line": run.config.by_line,
        "held_out": held_out,
        "card": card,
        **given_options(arguments, "max_loss"),
    }


def _export_c(run: "Run", target: Path, arguments: argparse.Namespace) -> None:
    from keras_seq.cli.corpora import naming_corpus
    from keras_seq_export import export_c

    options = _options_of_model(run, arguments)
    with naming_corpus():
        report = export_c(run.model, run.vocabulary, target, **options)
    print(
        f"{target}: {report['flash_bytes']:,} bytes of flash, {report['memory_bytes']:,} of memory, {_describe_quality(report)}"
    )
    print(
        f"  equal bit for bit to LiteRT over {report['program_steps']} steps; in C, the model is called {report['name']}"
    )


def _export_saved_model(run: "Run", target: Path) -> None:
    from keras_seq_export import export_saved_model

    report = export_saved_model(run.model, run.vocabulary, target)
    decode = report["signatures"]["decode"]
    print(
        f"{target}: {sum(report['bytes'].values()):,} bytes, largest difference of a logit "
        f"{decode['largest_difference']:.2g} over {decode['tokens_compared']} tokens in a C++ session"
    )


def _held_out(run: "Run", names: list[str] | None) -> tuple[str | None, dict[str, str]]:
    """Returns the text to measure an export on, and its source; None if the corpus of the run cannot be read any more."""
    from keras_seq.cli.corpora import corpus_name, corpus_source, read_corpus
    from keras_seq.training.run_directory import corpus_of

    if names:
        source: Any = corpus_source(names)
        corpus = read_corpus(names, by_line=run.config.by_line)
    else:
        source = run.config.corpus
        try:
            corpus = corpus_of(run.config)
        except (OSError, ValueError) as error:
            print(f"keras-seq: measured on text that the model writes, because {error}", file=sys.stderr)
            return None, {}
    text = corpus.validation + corpus.test
    if not text:
        raise ConfigError(
            f"the last tenth of {corpus_name(source)}, to measure the file on, is empty: name a longer {{}}",
            "corpus",
        )
    return text, {"held_out_from": corpus.name}


def _describe_quality(report: dict[str, Any]) -> str:
    from keras_seq_export.signatures import is_quantized

    quality, steps = report["quality"], report["steps_compared"]
    text = "in excerpts from the held-out text" if quality["text"] == "held_out" else "of text that the model wrote"
    measured = f"{quality['nats_of_file']:.4f} nats per token on {quality['tokens']:,} tokens {text}"
    if is_quantized(report["quantization"]):
        measured += (
            f", {quality['nats_lost']:.4f} lost to {report['quantization']}; "
            f"the most likely token is the same in {quality['greedy_agreement']:.1%}"
        )
    return f"{measured}; largest difference of a logit {report['largest_difference']:.2g} over {steps} tokens"
