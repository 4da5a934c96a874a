"""`keras-seq`: encode, train, sample, evaluate, export, the demo and the benchmark, from a shell."""

import argparse
import faulthandler
import functools
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_seq.data.corpus import Corpus
    from keras_seq.data.vocabulary import Vocabulary

FORMATS = ("tflite", "saved_model", "all")
DRAW = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "allow_unk", "stop")
SPLITS = ("held_out", "validation", "test", "train")


def run() -> None:
    """Entry point: parses the command line with absl, prints any expected error as one sentence."""
    if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
        _hide_native_notices()
    from absl import app, logging
    from absl.flags import argparse_flags

    logging.set_verbosity(logging.WARNING)

    def parse(arguments: list[str]) -> argparse.Namespace:
        return build_parser(argparse_flags.ArgumentParser).parse_args(arguments[1:])

    app.run(main, flags_parser=parse)


def _hide_native_notices() -> None:
    """Leaves stderr to Python: TensorFlow and LiteRT write start-up notices there that no setting of theirs turns off."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    faulthandler.enable(sys.stderr)  # A crash in native code must still say something.


def main(arguments: argparse.Namespace) -> int:
    """Runs one subcommand; returns the exit code."""
    from keras_seq.errors import TrainingError
    from keras_seq_export.errors import ExportError

    try:
        arguments.command(arguments)
    except (ValueError, TrainingError, ExportError) as error:
        print(f"keras-seq: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # Whoever read the text has enough, as `head` has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"keras-seq: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nkeras-seq: interrupted", file=sys.stderr)
        return 130
    return 0


def build_parser(parser_class: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Returns the parser of all subcommands."""
    from keras_seq_export.signatures import QUANTIZATIONS, STATES

    parser = parser_class(
        prog="keras-seq",
        description="Small recurrent language models, from a text to the phone.",
        allow_abbrev=False,  # else absl takes --run for a short form of its own --run_with_pdb
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_command = functools.partial(commands.add_parser, allow_abbrev=False)

    demo = add_command("demo", help="learn the built-in grammar, see what a plain RNN forgets, export, sample")
    demo.add_argument("--run", default="demo", help="directory to make (default: demo)")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(command=_demo)

    encode = add_command("encode", help="encode a text on disk, to train on one larger than memory")
    encode.add_argument(
        "--corpus",
        action="append",
        required=True,
        help="file, folder, pattern, field of a table (news.csv:body), or tfds:NAME; may be repeated",
    )
    encode.add_argument(
        "--output", required=True, help="directory to make; the same command goes on where it was cut off"
    )
    encode.add_argument("--level", default="char", choices=("char", "word"), help="what a token is (default: char)")
    _add_tokens(encode)
    encode.set_defaults(command=_encode)

    train = add_command("train", help="train a model on a text")
    train.add_argument(
        "--corpus",
        action="append",
        help="file, folder, pattern, field of a table (news.csv:body), tfds:NAME, what encode made, or - for standard input; "
        "may be repeated (default: agreement, the built-in grammar)",
    )
    train.add_argument("--run", help="run directory to make (default: runs/NAME)")
    _add_tokens(train)
    train.add_argument(
        "--level", choices=("char", "word"), help="what a token is (default: char; word for the grammar)"
    )
    train.add_argument("--cell", default="gru", choices=("gru", "simple_rnn", "lstm"))
    train.add_argument("--units", default="384", help="state size of each layer, such as 384 (default) or 256,256")
    train.add_argument("--embedding_dim", type=int, default=64, help="length of a token's vector (default: 64)")
    train.add_argument(
        "--dropout", type=float, default=0.1, help="share dropped after each recurrent layer (default: 0.1)"
    )
    train.add_argument("--embedding_dropout", type=float, default=0.0, help="share dropped after the embedding")
    train.add_argument(
        "--weight_dropout", type=float, default=0.0, help="share of the recurrent kernels' weights dropped (GRU only)"
    )
    train.add_argument("--batch_size", type=int, default=64)
    train.add_argument("--length", type=int, default=64, help="tokens of a stream in each batch")
    train.add_argument(
        "--learning_rate",
        type=float,
        default=5e-3,
        help="at its highest; it falls to 0 along a cosine (default: 0.005)",
    )
    train.add_argument("--clipnorm", type=float, help="clip each weight's gradient at this norm (default: 1)")
    train.add_argument("--global_clipnorm", type=float, help="clip all gradients at this common norm")
    train.add_argument("--clipvalue", type=float, help="clip each element of the gradients at this value")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int)
    length.add_argument("--minutes", type=float, help="train for this long (default: 3)")
    train.add_argument(
        "--warmup", type=float, default=0.02, help="share of the run over which the rate rises (default: 0.02)"
    )
    train.add_argument(
        "--optimizer", default="adam", help="Keras's name of it: adam, adamw, sgd, rmsprop (default: adam)"
    )
    train.add_argument("--weight_decay", type=float, help="share of each weight a step takes away, at learning rate 1")
    train.add_argument("--ema_momentum", type=float, help="average the weights over the steps, such as 0.999")
    train.add_argument("--label_smoothing", type=float, default=0.0, help="share of a target spread over all tokens")
    train.add_argument(
        "--tie_embeddings", action="store_true", help="embeddings are the kernel of the logits too (Press & Wolf 2017)"
    )
    train.add_argument(
        "--sampled_softmax",
        type=int,
        default=0,
        metavar="TOKENS",
        help="train over so many tokens drawn for each batch, such as 1024, in place of all (with --tie_embeddings)",
    )
    train.add_argument(
        "--on_divergence",
        choices=("stop", "rollback"),
        default="stop",
        help="when loss or gradient are no numbers: stop, or go back to the last checkpoint at half the rate",
    )
    train.add_argument("--tensorboard", action="store_true", help="log to RUN/tensorboard too (needs tensorboard)")
    train.add_argument(
        "--distribute",
        choices=("mirrored", "multi_worker"),
        help="train on all GPUs of this machine, or as one of the workers that TF_CONFIG names",
    )
    train.add_argument(
        "--workers", type=int, help="start so many workers on this machine; each has its part of --batch_size"
    )
    train.add_argument("--resume", action="store_true", help="go on with the run of --run, which was cut off")
    train.add_argument("--seed", type=int, default=0)
    train.set_defaults(command=_train, parser=train)

    sample = add_command("sample", help="write text with a run or a .tflite")
    _add_source(sample)
    sample.add_argument("--prompt", default="", help="text to go on from (default: none)")
    sample.add_argument("--max_tokens", type=int, default=200, help="tokens to write at most (default: 200)")
    sample.add_argument("--seed", type=int, help="the same seed gives the same text from a run and from its .tflite")
    _add_draw(sample)
    sample.add_argument(
        "--num_samples", type=int, help="write several texts: with --seed=S those of the seeds S, S + 1, ..."
    )
    sample.add_argument("--num_beams", type=int, help="above 1, search for the likeliest text instead of drawing")
    sample.add_argument(
        "--corpus", action="append", help="tell how many of the texts, as lines, stand in this text: copies"
    )
    sample.add_argument("--length_penalty", type=float, help="of beams: 0 favours short texts (default: 1)")
    sample.set_defaults(command=_sample)

    batch = add_command(
        "batch", help="write after many prompts, or score many texts, on all cores, from a file to a file"
    )
    batch.add_argument("--model", required=True, help=".tflite file")
    batch.add_argument(
        "--input", required=True, help="text file, a prompt or text a line; or the field of a table (news.csv:title)"
    )
    batch.add_argument("--output", required=True, help="JSON lines; the same command goes on where it was cut off")
    batch.add_argument("--score", action="store_true", help="score the lines, in place of writing after them")
    batch.add_argument("--workers", type=int, help="processes (default: one a core)")
    batch.add_argument("--max_tokens", type=int, default=200, help="tokens to write at most (default: 200)")
    batch.add_argument(
        "--seed", type=int, default=0, help="of the first text; that of line i has seed + i (default: 0)"
    )
    _add_draw(batch)
    batch.set_defaults(command=_batch, parser=batch)

    evaluate = add_command("evaluate", help="measure a run or a .tflite on held-out text")
    _add_source(evaluate)
    evaluate.add_argument("--corpus", action="append", help="text file, or agreement (default: that of the run)")
    evaluate.add_argument(
        "--split", default="held_out", choices=SPLITS, help="held_out is validation and test together"
    )
    evaluate.add_argument(
        "--window", type=int, default=256, help="tokens read afresh, for the second figure (default: 256, as nanoGPT)"
    )
    evaluate.set_defaults(command=_evaluate)

    gradients = add_command(
        "gradients", help="see gradients explode and be clipped, or how far back a run's loss reaches"
    )
    gradients.add_argument(
        "--run", action="append", help="run directory; may be given several times: show how far back"
    )
    gradients.add_argument("--lags", type=int, default=100, help="how far back to look, in steps (default: 100)")
    gradients.add_argument(
        "--output", default="gradients", help="directory for pictures and tables (default: gradients)"
    )
    gradients.add_argument("--seed", type=int, default=0)
    gradients.set_defaults(command=_gradients)

    export = add_command("export", help="write a .tflite and a SavedModel of a run")
    export.add_argument("--run", required=True)
    export.add_argument("--format", default="all", choices=FORMATS)
    export.add_argument(
        "--output",
        help="directory to write into (default: RUN/export): RUN.tflite, or such as RUN.int8.batch8.tflite, and RUN/1, RUN/2, ...",
    )
    export.add_argument(
        "--quantization",
        default="none",
        choices=list(QUANTIZATIONS),
        help="of the .tflite: float16 is half of it, int8 a quarter, int4 a sixth (default: none)",
    )
    export.add_argument(
        "--state",
        default="explicit",
        choices=STATES,
        help="of the .tflite: inputs and outputs, or variables inside with a signature reset (default: explicit)",
    )
    export.add_argument("--batch", type=int, default=1, help="rows that the .tflite takes at once (default: 1)")
    export.add_argument(
        "--max_loss", type=float, default=0.01, help="nats a token that quantization may cost (default: 0.01)"
    )
    export.add_argument(
        "--corpus",
        action="append",
        help="text whose last tenth the .tflite is measured on (default: that of the run)",
    )
    export.add_argument("--license", help="of the model, for its card, such as CC0-1.0")
    export.set_defaults(command=_export)

    inspect = add_command("inspect", help="see what is in a .tflite, without running it")
    inspect.add_argument("file", metavar="FILE.tflite")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(command=_inspect)

    web = add_command("web", help="open a .tflite in a page of your browser, served on this machine alone")
    web.add_argument("--model", metavar="FILE.tflite", help="the file (default: choose one in the page)")
    web.add_argument("--port", type=int, help="of the page's address (default: 8599)")
    web.add_argument("--no_open", action="store_true", help="print the address, and open no browser")
    web.set_defaults(command=_web)

    benchmark = add_command("benchmark", help="measure speed beside the peers', on this machine")
    subjects = benchmark.add_subparsers(required=True, metavar="SUBJECT")
    layer = subjects.add_parser(
        "layer",
        help="forward and backward pass of the GRU layer beside keras.layers.GRU and, where installed, torch.nn.GRU",
        allow_abbrev=False,
    )
    layer.add_argument(
        "--sizes", help="such as 64x100x128x256,1x1000x64x256: batch, length, features, units (default: five sizes)"
    )
    layer.add_argument("--rounds", type=int, default=15, help="turns of each contender (default: 15)")
    layer.add_argument("--json", action="store_true", help="print JSON instead of a table")
    layer.set_defaults(command=_benchmark_layer)
    decode = subjects.add_parser(
        "decode",
        help="one token in our .tflite beside TensorFlow and, where installed, ONNX Runtime and PyTorch",
        allow_abbrev=False,
    )
    decode.add_argument("--rounds", type=int, default=15, help="turns of each contender (default: 15)")
    decode.add_argument("--json", action="store_true", help="print JSON instead of a table")
    decode.set_defaults(command=_benchmark_decode)
    cost = subjects.add_parser(
        "sample", help="the draw of a token in LiteRT beside the model's step", allow_abbrev=False
    )
    cost.add_argument("--quantization", default="int8", choices=list(QUANTIZATIONS))
    cost.add_argument("--rounds", type=int, default=15, help="turns of each variant (default: 15)")
    cost.add_argument("--json", action="store_true", help="print JSON instead of a table")
    cost.set_defaults(command=_benchmark_sample)
    serve = subjects.add_parser(
        "serve",
        help="a SavedModel in TensorFlow's C++ session: texts at several batch sizes, many clients",
        allow_abbrev=False,
    )
    serve.add_argument(
        "--model", help="directory of a version, such as serving/shakespeare/1 (default: a GRU of 512 units)"
    )
    serve.add_argument("--rounds", type=int, default=5, help="turns of each batch size (default: 5)")
    serve.set_defaults(command=_benchmark_serve)
    corpus = subjects.add_parser(
        "corpus",
        help="encode a text on disk, and train on it from there: throughput, memory, and how long a step waits",
        allow_abbrev=False,
    )
    corpus.add_argument("--corpus", action="append", help="text file (default: sentences of the built-in grammar)")
    corpus.add_argument("--megabytes", type=int, default=100, help="of these sentences (default: 100)")
    corpus.add_argument("--steps", type=int, default=100, help="of training, of each kind (default: 100)")
    corpus.add_argument("--json", action="store_true", help="print JSON instead of a table")
    corpus.set_defaults(command=_benchmark_corpus)
    distribute = subjects.add_parser(
        "distribute",
        help="a training step alone and with a second worker, and what many workers would pay for talking",
        allow_abbrev=False,
    )
    distribute.add_argument("--steps", type=int, default=30, help="of training (default: 30)")
    distribute.set_defaults(command=_benchmark_distribute)
    identity = subjects.add_parser(
        "identity", help="whether one seed gives one text in Keras, the SavedModel and LiteRT", allow_abbrev=False
    )
    identity.add_argument("--run", required=True, help="run directory")
    identity.add_argument("--texts", type=int, default=1000, help="texts to write in each (default: 1000)")
    identity.add_argument("--max_tokens", type=int, default=200, help="tokens of each (default: 200)")
    identity.set_defaults(command=_benchmark_identity)
    memory = subjects.add_parser(
        "memory", help="over how many steps a GRU learns to remember, by how its bias starts", allow_abbrev=False
    )
    memory.add_argument("--distances", help="in steps, with commas between (default: 10,25,50,100,200)")
    memory.add_argument("--seed", type=int, default=0)
    memory.set_defaults(command=_benchmark_memory)
    return parser


def _add_draw(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=float, help="below 1 safer, above 1 wilder, 0 greedy (default: 1)")
    parser.add_argument("--top_k", type=int, help="draw from the k most likely tokens (default: 0, off)")
    parser.add_argument("--top_p", type=float, help="draw from the most likely tokens that make up p (default: 1, off)")
    parser.add_argument("--min_p", type=float, help="draw tokens of at least this share of the likeliest (default: 0)")
    parser.add_argument(
        "--repetition_penalty", type=float, help="above 1 avoids tokens already there (default: 1, off)"
    )
    parser.add_argument("--allow_unk", action="store_true", default=None, help="let <unk> be drawn")
    parser.add_argument(
        "--stop",
        action="append",
        help="end the text before this string (in bash $'\\n' is a line break); may be given several times",
    )


def _add_tokens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max_size", type=int, help="largest vocabulary, at word level")
    parser.add_argument(
        "--coverage", type=float, default=1.0, help="share of the text that the words kept make up (default: 1, all)"
    )
    parser.add_argument("--by_line", action="store_true", help="every line is a sequence of its own")


def _add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="run directory")
    source.add_argument("--model", help=".tflite file")


def _demo(arguments: argparse.Namespace) -> None:
    from keras_seq.cli.demo import demo

    demo(Path(arguments.run), arguments.seed)


def _train(arguments: argparse.Namespace) -> None:
    from keras_seq.cli.workers import end_with_launcher, is_worker
    from keras_seq.data.load import corpus_of, load_corpus
    from keras_seq.training.run_directory import load_settings, refuse_existing

    if arguments.workers is not None and not is_worker():
        _start_workers(arguments)
        return
    if is_worker():
        end_with_launcher()
    strategy = None
    if arguments.distribute or is_worker():
        strategy = _strategy(arguments.distribute or "multi_worker")
    if arguments.resume:
        if not arguments.run:
            raise ValueError("--resume needs the run to go on with: give it as --run=DIRECTORY")
        own = {name for name, value in vars(arguments).items() if value != arguments.parser.get_default(name)}
        if ignored := sorted(own - {"run", "resume", "distribute", "workers"}):
            raise ValueError(f"--resume goes on with the run's own settings: leave out --{', --'.join(ignored)}")
        directory = Path(arguments.run)
        vocabulary, config = load_settings(directory)
        corpus = corpus_of(config)
        _run_training(directory, corpus, vocabulary, config, resume=True, strategy=strategy)
        return
    samples = arguments.sampled_softmax
    if samples and (samples < 0 or not arguments.tie_embeddings or arguments.label_smoothing):
        raise ValueError(
            "--sampled_softmax must be a number of tokens above 0, with --tie_embeddings and without --label_smoothing. "
            f"Received: {samples}"
        )
    source = _corpus_source(arguments.corpus or ["agreement"])
    corpus = load_corpus(source, by_line=arguments.by_line)
    directory = Path(arguments.run or f"runs/{corpus.name}")
    refuse_existing(directory)
    by_line = arguments.by_line or corpus.by_line
    vocabulary = _vocabulary(corpus, arguments)
    clipping = {name: getattr(arguments, name) for name in ("clipnorm", "global_clipnorm", "clipvalue")}
    if not any(value is not None for value in clipping.values()):
        clipping["clipnorm"] = 1.0
    from keras_seq.training.train import DEFAULTS

    config = {
        "corpus": source,
        "by_line": by_line,
        "cell": arguments.cell,
        "units": _whole_numbers(arguments.units, "--units"),
        "embedding_dim": arguments.embedding_dim,
        "dropout": arguments.dropout,
        "batch_size": arguments.batch_size,
        "length": arguments.length,
        "learning_rate": arguments.learning_rate,
        "clipping": clipping,
        "epochs": arguments.epochs,
        "minutes": None if arguments.epochs is not None else (3.0 if arguments.minutes is None else arguments.minutes),
        "seed": arguments.seed,
        **{name: getattr(arguments, name) for name in DEFAULTS},
    }
    _run_training(directory, corpus, vocabulary, config, strategy=strategy)


def _strategy(kind: str) -> Any:
    from keras_seq.distribution.strategy import strategy, worker_number

    if kind == "multi_worker":
        print("waiting for the other workers", flush=True)
    workers = strategy(kind)
    # TensorFlow's handler, for machines that are taken away, only takes note: the worker would not end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print(f"worker {worker_number(workers)}, {workers.num_replicas_in_sync} replicas in all", flush=True)
    return workers


def _start_workers(arguments: argparse.Namespace) -> None:
    from keras_seq.cli.workers import run_workers
    from keras_seq.data.text_files import STANDARD_INPUT

    if arguments.distribute:
        raise ValueError("--workers starts the workers of multi_worker on this machine: leave out --distribute")
    if not arguments.run:
        raise ValueError("--workers needs the run directory that the workers share: give it as --run=DIRECTORY")
    if STANDARD_INPUT in (arguments.corpus or []):
        raise ValueError("every worker reads the corpus, which standard input cannot be: write it to a file first")
    run_workers(sys.argv[1:], arguments.workers, Path(arguments.run))


def _vocabulary(corpus: "Corpus", arguments: argparse.Namespace) -> "Vocabulary":
    from keras_seq.data.encoded_text import EncodedText
    from keras_seq.data.vocabulary import Level, Vocabulary

    if isinstance(corpus.train, EncodedText):
        names = ("level", "max_size", "coverage", "by_line")
        given = [name for name in names if getattr(arguments, name) != arguments.parser.get_default(name)]
        if given:
            raise ValueError(f"an encoded corpus has its own vocabulary and lines: leave out --{', --'.join(given)}")
        return corpus.train.vocabulary
    level: Level = arguments.level or ("word" if corpus.name == "agreement" else "char")
    # A character vocabulary has no <unk>: it holds every character of the corpus, those that training never sees too.
    text = corpus.train if level == "word" else corpus.train + corpus.validation + corpus.test
    return Vocabulary.from_text(text, level=level, max_size=arguments.max_size, coverage=arguments.coverage)


def _run_training(
    directory: Path,
    corpus: "Corpus",
    vocabulary: "Vocabulary",
    config: dict[str, Any],
    resume: bool = False,
    strategy: Any = None,
) -> None:
    from keras_seq.training.run_directory import CHECKPOINT
    from keras_seq.training.train import train

    name = shlex.quote(str(directory))
    print(_about(corpus, vocabulary))
    try:
        train(directory, corpus, vocabulary, config, resume=resume, strategy=strategy)
    except KeyboardInterrupt:
        if (directory / CHECKPOINT).exists():
            print(f"\nall finished epochs are saved; to go on: keras-seq train --run={name} --resume", file=sys.stderr)
        raise
    from keras_seq.distribution.strategy import is_chief

    if not is_chief(strategy):
        return
    print(f"run directory: {directory}\n\nNext:")
    print(
        f"  keras-seq sample --run={name} --seed=7\n  keras-seq evaluate --run={name}\n  keras-seq export --run={name}"
    )


def _about(corpus: "Corpus", vocabulary: "Vocabulary") -> str:
    """Says how much there is to learn from."""
    from keras_seq.data.encoded_text import places

    text = corpus.train
    size = f"{len(text):,} characters" if isinstance(text, str) else f"{len(text):,} tokens on disk"
    left_out = ""
    if vocabulary.unk_id is not None:
        ids = vocabulary.encode(text) if isinstance(text, str) else text
        left_out = f", {places(ids, vocabulary.unk_id).size / max(1, len(ids)):.1%} of the text is <unk>"
    return f"{corpus.name}: {size} to learn from, a vocabulary of {len(vocabulary):,} tokens{left_out}"


def _encode(arguments: argparse.Namespace) -> None:
    from keras_seq.data.encode import encode_corpus

    try:
        corpus = encode_corpus(
            _corpus_source(arguments.corpus),
            arguments.output,
            level=arguments.level,
            max_size=arguments.max_size,
            coverage=arguments.coverage,
            by_line=arguments.by_line,
        )
    except KeyboardInterrupt:
        print("\ngive the same command again to go on", file=sys.stderr)
        raise
    assert not isinstance(corpus.train, str)
    vocabulary = corpus.train.vocabulary
    print(_about(corpus, vocabulary))
    options = " --tie_embeddings --embedding_dim=256 --sampled_softmax=1024" if len(vocabulary) >= 10_000 else ""
    print(f"\nNext:\n  keras-seq train --corpus={shlex.quote(arguments.output)}{options}")


def _corpus_source(names: list[str]) -> str | list[str]:
    """Returns the files' absolute paths, so that a run is evaluated from any directory, or the name of the grammar."""
    from keras_seq.data.corpus import TFDS
    from keras_seq.data.text_files import STANDARD_INPUT

    if names == ["agreement"]:
        return "agreement"
    return [name if name == STANDARD_INPUT or name.startswith(TFDS) else os.path.abspath(name) for name in names]


def _whole_numbers(text: str, flag: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{flag} must be whole numbers with commas between, such as 256,256. Received: {text!r}"
        ) from None


def _sample(arguments: argparse.Namespace) -> None:
    given = _given(arguments, *DRAW, "num_samples", "num_beams", "length_penalty")
    known = _lines_of(arguments.corpus) if arguments.corpus else None
    options: Any = {"max_tokens": arguments.max_tokens, "seed": arguments.seed, **given}
    if arguments.model:
        from keras_seq_export.tflite.runtime import LiteRTSampler

        sampler = LiteRTSampler(arguments.model)
        vocabulary, pieces = sampler.vocabulary, sampler.generate(arguments.prompt, **options)
    else:
        from keras_seq.generation.keras_step import generate
        from keras_seq.training.run_directory import load_run

        run = load_run(Path(arguments.run))
        vocabulary, pieces = run.vocabulary, generate(run.model, run.vocabulary, arguments.prompt, **options)
    read = vocabulary.encode(arguments.prompt)
    if unknown := int((read == vocabulary.unk_id).sum()):
        print(f"keras-seq: {unknown} of {len(read)} tokens of the prompt are read as <unk>", file=sys.stderr)
    if arguments.seed is None:
        print(f"keras-seq: --seed={pieces.seed}", file=sys.stderr)
    print(arguments.prompt, end="", flush=True)
    row = 0
    texts = [""] * (arguments.num_samples or 1)
    for piece in pieces:
        for _ in range(row, piece.row):
            print("\n\n" + arguments.prompt, end="")
        row = piece.row
        texts[row] += piece
        print(piece, end="", flush=True)
    for _ in range(row + 1, arguments.num_samples or 1):
        print("\n\n" + arguments.prompt, end="")
    print()
    if known is not None:
        print(f"keras-seq: {_copies([arguments.prompt + text for text in texts], *known)}", file=sys.stderr)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Returns the options that were given."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _batch(arguments: argparse.Namespace) -> None:
    from keras_seq.data.load import named_texts
    from keras_seq.data.text_files import joined
    from keras_seq_export.tflite.batch_jobs import score_all, write_all

    text = "".join(joined(named_texts(_corpus_source([arguments.input]), [])))
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    given = _given(arguments, *DRAW)
    try:
        if arguments.score:
            if given:
                raise ValueError(f"--score draws nothing: leave out --{', --'.join(given)}")
            job = score_all(arguments.model, lines, arguments.output, arguments.workers)
        else:
            options = {"max_tokens": arguments.max_tokens, **given}
            job = write_all(arguments.model, lines, arguments.output, arguments.workers, arguments.seed, **options)
    except KeyboardInterrupt:
        print("\ngive the same command again to go on", file=sys.stderr)
        raise
    before = f", {job.there:,} of which were there already" if job.there else ""
    print(f"{arguments.output}: {len(lines):,} lines{before}")
    if job.failed:
        raise ValueError(f"{job.failed:,} of these lines could not be read by the model: their `error` says why")


def _lines_of(names: list[str]) -> tuple[str, set[str]]:
    """Returns the name of a corpus and its lines."""
    from keras_seq.data.load import load_corpus

    corpus = load_corpus(_corpus_source(names), validation=0, test=0)
    return corpus.name, set(corpus.text("train").splitlines())


def _copies(texts: list[str], name: str, lines: set[str]) -> str:
    """Tells how many texts are lines of a corpus, of that which a model learns from above all."""
    copies = sum(text.strip("\n") in lines for text in texts)
    return f"{copies} of {len(texts)} texts are lines of {name}; {1 - copies / len(texts):.0%} are new"


def _evaluate(arguments: argparse.Namespace) -> None:
    from keras_seq.data.load import corpus_of, load_corpus

    if arguments.model:
        from keras_seq_export.tflite.runtime import LiteRTSampler

        sampler = LiteRTSampler(arguments.model)
        by_line = bool(sampler.config.get("by_line"))
        if not arguments.corpus:
            raise ValueError("a .tflite does not name the text it learned from: give it as --corpus=FILE")
    else:
        from keras_seq.training.run_directory import load_run

        run = load_run(Path(arguments.run))
        by_line = run.config["by_line"]
    corpus = (
        load_corpus(_corpus_source(arguments.corpus), by_line=by_line) if arguments.corpus else corpus_of(run.config)
    )
    text = corpus.validation + corpus.test if arguments.split == "held_out" else corpus.text(arguments.split)
    if arguments.model:
        from keras_seq.analysis.evaluate import evaluate_step

        measure = functools.partial(evaluate_step, sampler, sampler.vocabulary, text)
    else:
        from keras_seq.analysis.evaluate import evaluate

        measure = functools.partial(evaluate, run.model, run.vocabulary, text)
    print(f"{corpus.name}, {arguments.split}: {measure(by_line)}", flush=True)
    if not by_line:
        window = arguments.window
        print(f"{corpus.name}, {arguments.split}, windows of {window} from the zero state: {measure(window=window)}")
    if arguments.run and corpus.name == "agreement":
        from keras_seq.analysis.agreement_accuracy import DISTANCES, PROBES, accuracy_table, right_verbs
        from keras_seq.data.agreement import agreement_probes

        probes = agreement_probes(PROBES, DISTANCES)
        right = {run.config.get("cell", "model"): right_verbs(run.model, run.vocabulary, probes)}
        print("\n" + "\n".join(accuracy_table(probes, right)))


def _gradients(arguments: argparse.Namespace) -> None:
    from keras_seq.analysis.exploding_gradients import explosions, plot_explosions
    from keras_seq.analysis.gradient_flow import run_flow, write_flow
    from keras_seq.analysis.plots import plot_gradient_flow

    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    if not arguments.run:
        runs = []
        for run in explosions(arguments.seed):
            print(run, flush=True)
            runs.append(run)
        plot_explosions(runs, output / "explosion.png")
        print(f"the norms by step: {output / 'explosion.png'}")
        return
    curves: dict[str, Any] = {}
    for name in arguments.run:
        curves |= run_flow(Path(name), arguments.lags, arguments.seed)
    write_flow(curves, output / "gradient_flow.csv")
    plot_gradient_flow(curves, output / "gradient_flow.png")
    shown = [lag for lag in (0, 1, 2, 5, 10, 20, 50, 100) if lag <= arguments.lags]
    print(f"{'k':<40}" + "".join(f"{lag:>9}" for lag in shown))
    for name, norms in curves.items():
        print(f"{name:<40}" + "".join(f"{norms[lag]:>9.1e}" for lag in shown))
    print(f"{output / 'gradient_flow.png'}, {output / 'gradient_flow.csv'}")


def _export(arguments: argparse.Namespace) -> None:
    from keras_seq.training.run_directory import load_run
    from keras_seq_export import ExportError, export_saved_model, export_tflite
    from keras_seq_export.saved_model.serving_files import next_version

    run = load_run(Path(arguments.run))
    output = Path(arguments.output) if arguments.output else run.directory / "export"
    name = run.directory.resolve().name
    by_line = run.config["by_line"]
    kinds = ((arguments.quantization, "none"), (arguments.state, "explicit"), (f"batch{arguments.batch}", "batch1"))
    marks = [f".{kind}" for kind, usual in kinds if kind != usual]
    if marks and arguments.format == "saved_model":
        raise ValueError(
            "--quantization, --state and --batch are of the .tflite: leave them out, or choose --format=tflite"
        )
    tflite, saved_model = output / f"{name}{''.join(marks)}.tflite", next_version(output / name)
    wanted = [
        target
        for target, kind in ((tflite, "tflite"), (saved_model, "saved_model"))
        if arguments.format in (kind, "all")
    ]
    for target in wanted:
        if target.exists():
            raise ExportError(f"{target} exists: choose another --output, or remove it first")
    if tflite in wanted:
        held_out, measured_on = _held_out(run.config, arguments.corpus)
        card = {"name": name, "corpus": _corpus_name(run.config["corpus"]), **measured_on}
        card |= {key: run.config[key] for key in ("cell", "units") if key in run.config}
        report = export_tflite(
            run.model,
            run.vocabulary,
            tflite,
            quantization=arguments.quantization,
            by_line=by_line,
            state=arguments.state,
            batch=arguments.batch,
            held_out=held_out,
            max_loss=arguments.max_loss,
            card=card | ({"license": arguments.license} if arguments.license else {}),
        )
        print(f"{tflite}: {report['bytes']:,} bytes, {_checked(report)}")
        for signature, operators in report["operators"].items():
            print(f"  {signature}: {', '.join(f'{operator} {count}' for operator, count in operators.items())}")
    if saved_model in wanted:
        report = export_saved_model(run.model, run.vocabulary, saved_model)
        decode = report["signatures"]["decode"]
        print(
            f"{saved_model}: {sum(report['bytes'].values()):,} bytes, largest difference of a logit "
            f"{decode['largest_difference']:.2g} over {decode['tokens_compared']} tokens in a C++ session"
        )


def _held_out(config: dict[str, Any], names: list[str] | None) -> tuple[str | None, dict[str, str]]:
    """Returns the text to measure an export on, and where it is from; None where the run's own is no longer there."""
    from keras_seq.data.load import corpus_of

    source = _corpus_source(names) if names else config["corpus"]
    try:
        corpus = corpus_of({**config, "corpus": source})
    except (OSError, ValueError) as error:
        if names:
            raise
        print(f"keras-seq: measured on text of the model's own, since {error}", file=sys.stderr)
        return None, {}
    text = corpus.validation + corpus.test
    if not text:
        raise ValueError(
            f"the last tenth of {_corpus_name(source)}, to measure the file on, is empty: name a longer --corpus"
        )
    return text, {"held_out_from": corpus.name}


def _corpus_name(source: str | list[str]) -> str:
    return source if isinstance(source, str) else ", ".join(Path(file).stem for file in source)


def _inspect(arguments: argparse.Namespace) -> None:
    from keras_seq_export.tflite import inspect as inspection

    found = inspection.inspect(arguments.file)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(inspection.lines(found)))


def _web(arguments: argparse.Namespace) -> None:
    import webbrowser

    from keras_seq_export.tflite.page_server import PORT, page_server

    server, address = page_server(arguments.model, port=PORT if arguments.port is None else arguments.port)
    print(f"{address} (Ctrl-C ends it)", flush=True)
    if not arguments.no_open:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


def _benchmark_layer(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import gru_layer as benchmark

    sizes = [benchmark.Size.parse(text) for text in arguments.sizes.split(",")] if arguments.sizes else benchmark.SIZES
    _print_rows(benchmark.benchmark_layer(sizes, arguments.rounds), benchmark.table, arguments.json)


def _benchmark_decode(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import litert_decode as decode_speed

    _print_rows(decode_speed.benchmark_decode(arguments.rounds), decode_speed.table, arguments.json)


def _benchmark_sample(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import litert_sample as sampling_cost

    rows = sampling_cost.benchmark_sample(arguments.quantization, arguments.rounds)
    _print_rows(rows, sampling_cost.table, arguments.json)


def _benchmark_corpus(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import corpus as corpus_cost

    rows = corpus_cost.benchmark_corpus(arguments.corpus, arguments.megabytes, arguments.steps)
    _print_rows(rows, corpus_cost.table, arguments.json)


def _benchmark_distribute(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import distribution as distribution_cost

    for line in distribution_cost.benchmark_distribute(arguments.steps):
        print(line, flush=True)


def _benchmark_serve(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import serving as serving_cost

    rows, concurrency = serving_cost.benchmark_serve(
        Path(arguments.model) if arguments.model else None, arguments.rounds
    )
    print("\n".join([*serving_cost.table(rows), "", str(concurrency)]))


def _print_rows(rows: Iterable[Any], table: Callable[[Iterable[Any]], Iterable[str]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(list(rows), indent=2))
        return
    for line in table(rows):
        print(line, flush=True)


def _benchmark_identity(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks.identity import compare_runtimes
    from keras_seq.data.load import corpus_of
    from keras_seq.training.run_directory import load_run
    from keras_seq_export import ExportError

    run = load_run(Path(arguments.run))
    corpus = corpus_of(run.config)
    text = corpus.validation + corpus.test
    comparison = compare_runtimes(run.model, run.vocabulary, text, arguments.texts, arguments.max_tokens)
    print(comparison)
    if not all(difference.is_near_tie for difference in comparison.differences):
        raise ExportError("the runtimes must write the same texts, near-ties apart; they do not")


def _benchmark_memory(arguments: argparse.Namespace) -> None:
    from keras_seq.benchmarks import long_memory as recall

    distances = _whole_numbers(arguments.distances, "--distances") if arguments.distances else recall.DISTANCES
    for line in recall.recall_table(distances, arguments.seed):
        print(line, flush=True)


def _checked(report: dict[str, Any]) -> str:
    quality, steps = report["quality"], report["steps_compared"]
    text = "held-out text" if quality["text"] == "held_out" else "text of its own"
    checked = (
        f"largest difference of a logit {report['largest_difference']:.2g} over {steps} tokens; "
        f"{quality['nats_of_file']:.4f} nats a token on {quality['tokens']:,} tokens of {text}"
    )
    if report["quantization"] == "none":
        return checked
    return (
        f"{checked}, {quality['nats_lost']:.4f} lost to {report['quantization']}; "
        f"the likeliest token is the same in {quality['greedy_agreement']:.1%}"
    )


if __name__ == "__main__":
    run()
