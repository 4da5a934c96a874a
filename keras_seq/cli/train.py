"""`keras-seq train`: trains a model on a text."""

import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from keras_seq.cli.options import CORPUS_HELP, LEVELS, TRUSTED_NETWORK_HELP, add_command, as_flags, integers
from keras_seq.errors import ConfigError, KerasSeqError
from keras_seq.layers.ngram_limits import ROWS
from keras_seq.models.language_model import CELLS, EMBEDDING_INITIALIZERS
from keras_seq.training.config import CLIPPING_KINDS, ON_DIVERGENCE, Clipping, TrainConfig, read_config

if TYPE_CHECKING:
    from keras_seq.data.corpus import Corpus
    from keras_seq.data.tokens import Level
    from keras_seq.data.vocabulary import Vocabulary

_DEFAULTS = TrainConfig()
_FIELDS = [field.name for field in dataclasses.fields(TrainConfig)]


def add_parser(commands: Any) -> None:
    """Adds `keras-seq train` to the commands."""
    parser = add_command(commands, "train", "train a model on a text")
    run_group = parser.add_argument_group("run")
    run_group.add_argument("--run", help="run directory to make (default: runs/ and the name of the corpus)")
    run_group.add_argument(
        "--config",
        metavar="FILE",
        help="config.json of a run, or a .toml file with the same keys; options override it (default: none)",
    )
    run_group.add_argument(
        "--resume", action="store_true", help="resume the interrupted run of --run (default: a new run)"
    )
    _add_text_options(parser.add_argument_group("text and vocabulary"))
    _add_model_options(parser.add_argument_group("model"))
    _add_training_options(parser.add_argument_group("training"))
    _add_optimizer_options(parser.add_argument_group("optimizer"))
    devices = parser.add_argument_group("several devices")
    devices.add_argument(
        "--distribute",
        choices=("mirrored", "multi_worker"),
        help="train on all GPUs of this machine, or as one of the workers in TF_CONFIG (default: one device)",
    )
    devices.add_argument("--trusted_network", action="store_true", help=TRUSTED_NETWORK_HELP)
    devices.add_argument(
        "--workers",
        type=int,
        help="split each batch over this many workers on the CPU of this machine, without a network (default: none)",
    )
    parser.set_defaults(run_command=run)


def _add_option(group: Any, name: str, summary: str, **options: Any) -> None:
    """Adds an option for an attribute of `TrainConfig`, whose default it shows. An option not given is left out."""
    default = options.pop("shown", None) or _shown(getattr(_DEFAULTS, name))
    group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=f"{summary} (default: {default})", **options)


def _shown(default: Any) -> str:
    if default is None or default is False:
        return "off"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _add_text_options(group: Any) -> None:
    _add_option(
        group,
        "corpus",
        f"{CORPUS_HELP}; or the output of encode",
        action="append",
        shown="agreement, the built-in grammar",
    )
    _add_option(group, "level", "what a token is", choices=LEVELS, shown="char, but word for the built-in grammar")
    _add_option(group, "max_size", "largest vocabulary, at word level", type=int, shown="all")
    _add_option(group, "coverage", "keep the most frequent words that make up this fraction of the text", type=float)
    by_line = argparse.BooleanOptionalAction
    _add_option(group, "by_line", "make each line a sequence of its own", action=by_line)


def _add_model_options(group: Any) -> None:
    _add_option(group, "cell", "kind of recurrent layer", choices=CELLS)
    _add_option(group, "units", "state size of each layer, such as 256,256", type=integers)
    _add_option(group, "embedding_dim", "length of a token's vector", type=int)
    _add_option(
        group,
        "embedding_initializer",
        "how the vectors of the tokens begin: normal with a deviation of 1, or uniform in ±0.05, which ends better after an hour with "
        "--ngrams",
        choices=EMBEDDING_INITIALIZERS,
        shown="normal, with --tie_embeddings uniform",
    )
    _add_option(group, "dropout", "fraction dropped after each recurrent layer", type=float)
    _add_option(group, "embedding_dropout", "fraction dropped after the embedding", type=float)
    _add_option(group, "weight_dropout", "fraction of the recurrent kernels' weights dropped, GRU only", type=float)
    _add_option(
        group,
        "tie_embeddings",
        "use the embeddings as the kernel of the logits too (Press & Wolf 2017)",
        action=argparse.BooleanOptionalAction,
    )
    _add_option(
        group,
        "ngrams",
        "add vectors of hashed n-grams of 2 to this many tokens, at most 8, to the logits, such as 4 (Mikolov et al. 2011)",
        type=int,
        metavar="TOKENS",
        shown="0, off",
    )
    _add_option(
        group,
        "ngram_rows",
        "rows in the table of n-grams, best a prime number; each has as many numbers as there are tokens, with "
        "--tie_embeddings --embedding_dim; needs --ngrams",
        type=int,
        shown=f"{ROWS} with --ngrams",
    )
    _add_option(
        group,
        "sampled_softmax",
        "train over this many tokens sampled for each batch, such as 1024, instead of all; needs --tie_embeddings",
        type=int,
        metavar="TOKENS",
        shown="0, off",
    )


def _add_training_options(group: Any) -> None:
    length = group.add_mutually_exclusive_group()
    _add_option(length, "epochs", "passes through the text", type=int, shown="none; see --minutes")
    _add_option(length, "minutes", "minutes of training", type=float)
    _add_option(group, "batch_size", "rows in a batch", type=int)
    _add_option(group, "length", "tokens in each row of a batch; gradients reach no further back", type=int)
    _add_option(group, "seed", "seed of weights, dropout and order of the text", type=int)
    _add_option(
        group,
        "on_divergence",
        "when the loss or a gradient is not finite: stop, or roll back to the last checkpoint at half the rate",
        choices=ON_DIVERGENCE,
    )
    _add_option(
        group,
        "tensorboard",
        "log to RUN/tensorboard too; needs tensorboard",
        action=argparse.BooleanOptionalAction,
    )


def _add_optimizer_options(group: Any) -> None:
    _add_option(group, "optimizer", "Keras's name of the optimizer: adam, adamw, sgd, rmsprop")
    _add_option(group, "learning_rate", "highest learning rate; it falls to 0 along a cosine", type=float)
    _add_option(group, "warmup", "fraction of the run over which the learning rate rises", type=float)
    clipping = group.add_mutually_exclusive_group()
    for kind, summary in zip(
        CLIPPING_KINDS,
        (
            "clip the gradient of each weight matrix to this norm",
            "clip all gradients to this common norm",
            "clip each element of the gradients to this value",
        ),
        strict=True,
    ):
        assert _DEFAULTS.clipping is not None
        default = _DEFAULTS.clipping.threshold if kind == _DEFAULTS.clipping.kind else "off"
        clipping.add_argument(f"--{kind}", type=float, help=f"{summary} (default: {default})")
    _add_option(group, "weight_decay", "fraction of each weight that a step removes, at learning rate 1", type=float)
    _add_option(
        group,
        "ngram_decay",
        "fraction of each n-gram's vector that a step removes, at learning rate 1, such as 0.5, so that a long run does not "
        "memorize the text; needs --ngrams, and an optimizer without a decay of its own; excludes --weight_decay",
        type=float,
    )
    _add_option(group, "ema_momentum", "average the weights over the steps, such as 0.999", type=float)
    _add_option(group, "label_smoothing", "fraction of each target spread over all tokens", type=float)


def run(arguments: argparse.Namespace) -> None:
    """Trains a new run, or resumes one."""
    strategy = _strategy(arguments)
    if arguments.resume:
        _resume(arguments, strategy)
    else:
        with _naming_config_file(arguments):
            _train_new_run(arguments, strategy)


def given_config(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the attributes of `TrainConfig` that were given as options."""
    given = {name: value for name, value in vars(arguments).items() if name in _FIELDS}
    for kind in CLIPPING_KINDS:
        if (threshold := getattr(arguments, kind)) is not None:
            given["clipping"] = Clipping(kind, threshold)
    return given


def config_of(arguments: argparse.Namespace) -> TrainConfig:
    """Returns the configuration of a new run: the file of `--config`, changed by the options that were given."""
    values = {} if arguments.config is None else read_config(Path(arguments.config))
    given = given_config(arguments)
    if arguments.config is not None and not {"corpus"} & (values.keys() | given.keys()):
        raise ConfigError(f"{arguments.config} must name a corpus: add one, or give it with --corpus")
    for name, other in (("epochs", "minutes"), ("minutes", "epochs")):
        if name in given:  # The option replaces the length in the file, whichever it is.
            values.pop(other, None)
    if given.get("ngrams") == 0:
        values = {name: value for name, value in values.items() if name not in ("ngram_rows", "ngram_decay")}
    return TrainConfig.from_dict({**values, **given})


@contextlib.contextmanager
def _naming_config_file(arguments: argparse.Namespace) -> Iterator[None]:
    """Names the file of `--config` in errors about values of which not all were given as options."""
    try:
        yield
    except KerasSeqError as error:
        if arguments.config is None or not set(error.names) - given_config(arguments).keys():
            raise
        raise ConfigError(f"{arguments.config}: {error}") from error


def _train_new_run(arguments: argparse.Namespace, strategy: Any) -> None:
    from keras_seq.cli.corpora import corpus_source
    from keras_seq.data.load import load_corpus
    from keras_seq.training.run_directory import refuse_existing

    if strategy is not None:  # Without one, the import of TensorFlow would only delay what is refused.
        from keras_seq.distribution.strategies import is_chief

    config = config_of(arguments)
    # The chief may be at work there already when another worker comes here.
    refuses = strategy is None or is_chief(strategy)
    if arguments.run and refuses:  # A long corpus takes long to read.
        refuse_existing(Path(arguments.run))
    source = corpus_source([config.corpus] if isinstance(config.corpus, str) else config.corpus)
    corpus = load_corpus(source, by_line=config.by_line)
    directory = Path(arguments.run or f"runs/{corpus.name}")
    if not arguments.run and refuses:
        refuse_existing(directory)
    vocabulary = _vocabulary(corpus, config, given_config(arguments))
    config = dataclasses.replace(
        config,
        corpus=source if isinstance(source, str) else tuple(source),
        level=cast("Level", vocabulary.level),  # a vocabulary that was made from a text has no other
        by_line=config.by_line or corpus.by_line,
    )
    _train(directory, corpus, vocabulary, config, resume=False, strategy=strategy)


def _resume(arguments: argparse.Namespace, strategy: Any) -> None:
    from keras_seq.training.run_directory import corpus_of, load_settings

    if arguments.config:
        raise ConfigError("{} has a configuration of its own: leave out {}", "resume", "config")
    if not arguments.run:
        raise ConfigError("{} needs the run to resume: give it as --run=DIRECTORY", "resume")
    if given := [name for name in (*_FIELDS, *CLIPPING_KINDS) if getattr(arguments, name, None) is not None]:
        raise ConfigError(f"{{}} uses the configuration of the run: leave out {as_flags(given)}", "resume")
    directory = Path(arguments.run)
    vocabulary, config = load_settings(directory)
    _train(directory, corpus_of(config), vocabulary, config, resume=True, strategy=strategy)


def _train(
    directory: Path, corpus: "Corpus", vocabulary: "Vocabulary", config: TrainConfig, *, resume: bool, strategy: Any
) -> None:
    from keras_seq.cli.corpora import describe_corpus
    from keras_seq.distribution.strategies import is_chief
    from keras_seq.training.run_directory import CHECKPOINT, CONFIG, MODEL
    from keras_seq.training.train import train
    from keras_seq.training.writing import resume_command

    name = shlex.quote(str(directory))
    print(describe_corpus(corpus, vocabulary))
    try:
        train(directory, corpus, vocabulary, config, resume=resume, strategy=strategy)
    except KeyboardInterrupt:
        import logging

        # TensorFlow would print how each part of a graph was made that is not finished.
        logging.getLogger("tensorflow").setLevel(logging.CRITICAL)
        if (directory / MODEL).exists() and (directory / CHECKPOINT).exists():
            print(f"\nall finished epochs are saved; to resume: {resume_command(directory)}", file=sys.stderr)
        elif (directory / CONFIG).exists() and not (directory / MODEL).exists():
            print(f"\nno epoch is finished; to start again: {resume_command(directory)}", file=sys.stderr)
        raise
    if not is_chief(strategy):
        return
    print(f"run directory: {directory}\n\nNext:")
    print(
        f"  keras-seq sample --run={name} --seed=7\n  keras-seq evaluate --run={name}\n  keras-seq export --run={name}"
    )


def _vocabulary(corpus: "Corpus", config: TrainConfig, given: dict[str, Any]) -> "Vocabulary":
    """Returns the vocabulary of a corpus that is encoded on disk, or makes one."""
    from keras_seq.data.encoded_text import EncodedText
    from keras_seq.data.vocabulary import Vocabulary

    if isinstance(corpus.train, EncodedText):
        if fixed := [name for name in ("level", "max_size", "coverage", "by_line") if name in given]:
            raise ConfigError(f"an encoded corpus has its own vocabulary and lines: leave out {as_flags(fixed)}")
        return corpus.train.vocabulary
    level = config.level or ("word" if corpus.name == "agreement" else "char")
    # A character vocabulary has no <unk>: it holds every character of the corpus, also those outside the training part.
    text = corpus.train if level == "word" else corpus.train + corpus.validation + corpus.test
    return Vocabulary.from_text(text, level=level, max_size=config.max_size, coverage=config.coverage)


def _strategy(arguments: argparse.Namespace) -> Any:
    """Returns the strategy that the options ask for; None for one device."""
    if arguments.workers is not None and arguments.distribute:
        raise ConfigError("only one of {} and {} can be given", "workers", "distribute")
    if arguments.trusted_network and arguments.distribute != "multi_worker":
        raise ConfigError("{} is only for {}=multi_worker: leave it out", "trusted_network", "distribute")
    if arguments.workers is None and not arguments.distribute:
        return None
    from keras_seq.distribution.strategies import cpu_strategy, require_trusted_network, strategy, worker_number
    from keras_seq.distribution.tf_config import TF_CONFIG, read_tf_config

    if arguments.workers is not None:
        return cpu_strategy(arguments.workers)
    if arguments.distribute == "multi_worker":
        require_trusted_network(arguments.trusted_network)
        read_tf_config(os.environ.get(TF_CONFIG))
        print("waiting for the other workers", flush=True)
    workers = strategy(arguments.distribute, trusted_network=arguments.trusted_network)
    print(f"worker {worker_number(workers)}, {workers.num_replicas_in_sync} replicas in all", flush=True)
    return workers
