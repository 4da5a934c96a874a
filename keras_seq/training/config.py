"""The configuration of a training run: `TrainConfig` holds every default of training, written once."""

import dataclasses
import difflib
import errno
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from keras_seq import require
from keras_seq.data.tokens import Level
from keras_seq.errors import ArgumentError, ConfigError, shortened
from keras_seq.files import read_regular
from keras_seq.json_text import parse_json
from keras_seq.models.language_model import EMBEDDING_DIM, UNITS, require_language_model_arguments

DEFAULT_MINUTES = 3.0
ON_DIVERGENCE = ("stop", "rollback")
CLIPPING_KINDS = ("clipnorm", "global_clipnorm", "clipvalue")
_LARGEST = 2**31 - 1  # of a size or number; arrays have int32 sizes
# Bytes; most of them are names of files. Python's reader of TOML takes quadratic time: 17 s for a key of 100,000 parts.
_LARGEST_JSON, _LARGEST_TOML = 2**24, 2**15


@dataclass(frozen=True)
class Clipping:
    """How the gradients of a step are clipped.

    Attributes:
        kind: `"clipnorm"` rescales each weight's own gradient whose norm exceeds the threshold, `"global_clipnorm"` all
            gradients together when their common norm does (Pascanu et al. 2013, arXiv 1211.5063), `"clipvalue"` cuts each
            element at plus and minus the threshold. These are the optimizer arguments of Keras.
        threshold: a positive number.

    Raises:
        ArgumentError: `kind` is unknown or `threshold` is out of range.

    Example:
        >>> Clipping("global_clipnorm", 0.5).optimizer_arguments
        {'global_clipnorm': 0.5}
    """

    kind: str = "clipnorm"
    threshold: float = 1.0

    def __post_init__(self) -> None:
        require.one_of("clipping", self.kind, CLIPPING_KINDS)
        require.positive_number(self.kind, self.threshold)

    @property
    def optimizer_arguments(self) -> dict[str, float]:
        """The clipping as an argument of a Keras optimizer."""
        return {self.kind: self.threshold}

    def __str__(self) -> str:
        return f"{self.kind}={self.threshold:g}"


@dataclass(frozen=True)
class TrainConfig:
    """What a training run learns from, which model it trains, and how. `keras-seq train` has an option for each attribute.

    Attributes:
        corpus: what `keras_seq.load_corpus` reads; `"agreement"` is the built-in grammar.
        level: `"char"` or `"word"`; None is `"word"` for the grammar and `"char"` for any other corpus.
        max_size: largest number of tokens in the vocabulary, at word level; None keeps all.
        coverage: fraction of the text that the words in the vocabulary make up, in (0, 1].
        by_line: whether each line is a sequence of its own.
        cell: `"gru"`, `"simple_rnn"` or `"lstm"`.
        units: state size of each recurrent layer.
        embedding_dim: length of a token's vector.
        embedding_initializer: `"normal"` or `"uniform"`, see `keras_seq.language_model`.
        dropout: fraction of values dropped after each recurrent layer.
        embedding_dropout: fraction of values dropped after the embedding.
        weight_dropout: fraction of the recurrent kernels' weights dropped; `cell="gru"` only.
        tie_embeddings: whether the embeddings are also the kernel of the logits (Press & Wolf 2017, arXiv 1608.05859).
        ngrams: length of the longest n-grams whose vectors are added to the logits, in tokens; 0 is off
            (`keras_seq.NgramEmbedding`).
        ngram_rows: rows in the table of n-grams; None is 22,993, or as many as a large vocabulary allows.
        ngram_decay: fraction of these rows that a step at learning rate 1 removes (Loshchilov & Hutter 2019, arXiv
            1711.05101); None is off.
        sampled_softmax: number of tokens sampled for each batch to train on instead of the whole vocabulary; 0 is off. It
            needs `tie_embeddings` (Jean et al. 2015, arXiv 1412.2007).
        batch_size: rows in a batch, of all replicas together.
        length: tokens of each stream in a batch.
        epochs: passes through the text.
        minutes: minutes of training. At most one of `epochs` and `minutes` is given; without either it is 3 minutes.
        optimizer: Keras's name of the optimizer.
        learning_rate: the highest learning rate; it falls to zero along a cosine.
        warmup: fraction of the run over which the learning rate rises, in [0, 1).
        clipping: how gradients are clipped; None does not clip.
        weight_decay: fraction of each weight, biases excluded, that a step at learning rate 1 removes; None is off.
        ema_momentum: momentum of the moving average of the weights, in (0, 1); None is off (Polyak & Juditsky 1992).
        label_smoothing: fraction of each target that is spread over all tokens, in [0, 1) (arXiv 1512.00567).
        on_divergence: `"stop"` ends the run when loss or gradient are not finite, `"rollback"` returns to the last
            checkpoint at half the learning rate.
        tensorboard: whether to log to `RUN/tensorboard` as well.
        seed: seed of the weights, the dropout and the order of the data.

    Raises:
        ArgumentError: an attribute is out of range; it is named.
        ConfigError: two attributes contradict each other.

    Example:
        >>> config = TrainConfig(units=(256, 256), epochs=5)
        >>> config.minutes is None, TrainConfig().minutes
        (True, 3.0)
    """

    corpus: str | tuple[str, ...] = "agreement"
    level: Level | None = None
    max_size: int | None = None
    coverage: float = 1.0
    by_line: bool = False
    cell: str = "gru"
    units: tuple[int, ...] = UNITS
    embedding_dim: int = EMBEDDING_DIM
    embedding_initializer: str | None = None
    dropout: float = 0.1
    embedding_dropout: float = 0.0
    weight_dropout: float = 0.0
    tie_embeddings: bool = False
    ngrams: int = 0
    ngram_rows: int | None = None
    ngram_decay: float | None = None
    sampled_softmax: int = 0
    batch_size: int = 64
    length: int = 64
    epochs: int | None = None
    minutes: float | None = None
    optimizer: str = "adam"
    learning_rate: float = 5e-3
    warmup: float = 0.02
    clipping: Clipping | None = field(default_factory=Clipping)
    weight_decay: float | None = None
    ema_momentum: float | None = None
    label_smoothing: float = 0.0
    on_divergence: str = "stop"
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("corpus", "units"):  # JSON and TOML have lists; a frozen configuration has tuples.
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "minutes", DEFAULT_MINUTES)
        self._require_text()
        self._require_model()
        self._require_training()

    def _require_text(self) -> None:
        names = self.corpus if isinstance(self.corpus, tuple) else (self.corpus,)
        is_corpus = bool(names) and all(isinstance(name, str) and _is_path(name) for name in names)
        require.that(is_corpus, "corpus", "a path or name, or a list of them", self.corpus)
        if self.level is not None:
            require.one_of("level", self.level, get_args(Level))
        if self.max_size is not None:
            _require_size("max_size", self.max_size)
        require.positive_fraction("coverage", self.coverage)
        require.boolean("by_line", self.by_line)

    def _require_model(self) -> None:
        require_language_model_arguments(**self.model_options)
        _require_size("embedding_dim", self.embedding_dim)
        require.that(max(self.units) <= _LARGEST, "units", f"a list of integers up to {_LARGEST:,}", self.units)
        if self.ngram_decay is not None:
            if not self.ngrams:
                raise ConfigError("{} needs {}", "ngram_decay", "ngrams")
            if self.weight_decay is not None:
                raise ConfigError("only one of {} and {} can be set", "ngram_decay", "weight_decay")
        require.integer("sampled_softmax", self.sampled_softmax, at_least=0)
        if self.sampled_softmax and not self.tie_embeddings:
            raise ConfigError("{} needs {}", "sampled_softmax", "tie_embeddings")
        if self.sampled_softmax and self.label_smoothing:
            raise ConfigError("only one of {} and {} can be set", "sampled_softmax", "label_smoothing")

    def _require_training(self) -> None:
        for name in ("batch_size", "length"):
            _require_size(name, getattr(self, name))
        if self.epochs is not None and self.minutes is not None:
            raise ConfigError("only one of {} and {} can be set", "epochs", "minutes")
        if self.epochs is not None:
            _require_size("epochs", self.epochs)
        else:
            require.positive_number("minutes", self.minutes)
        require.that(isinstance(self.optimizer, str), "optimizer", "a name, such as adam", self.optimizer)
        require.positive_number("learning_rate", self.learning_rate)
        require.fraction("warmup", self.warmup)
        is_clipping = self.clipping is None or isinstance(self.clipping, Clipping)
        require.that(is_clipping, "clipping", "a Clipping or None", self.clipping)
        for name in ("weight_decay", "ngram_decay"):
            if (decay := getattr(self, name)) is not None:
                require.positive_number(name, decay)
                expected = f"below {1 / self.learning_rate:g}: a step removes this fraction times the learning rate"
                require.that(decay * self.learning_rate < 1, name, expected, decay)
        if self.ema_momentum is not None:
            in_range = require.is_number(self.ema_momentum) and 0 < self.ema_momentum < 1
            require.that(in_range, "ema_momentum", "between 0 and 1", self.ema_momentum)
        require.fraction("label_smoothing", self.label_smoothing)
        require.one_of("on_divergence", self.on_divergence, ON_DIVERGENCE)
        require.boolean("tensorboard", self.tensorboard)
        is_seed = require.is_integer(self.seed) and -(2**63) <= self.seed < 2**63
        require.that(is_seed, "seed", "an integer of 64 bits", self.seed)

    @property
    def model_options(self) -> dict[str, Any]:
        """The arguments of `keras_seq.language_model`, without the size of the vocabulary."""
        embeddings = ("embedding_dim", "embedding_initializer", "embedding_dropout", "tie_embeddings")
        names = ("cell", "units", "dropout", "weight_dropout", *embeddings, "ngrams", "ngram_rows")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Returns the configuration as `config.json` stores it.

        Example:
            >>> TrainConfig.from_dict(TrainConfig(units=(8,)).to_dict()) == TrainConfig(units=(8,))
            True
        """
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Returns the configuration that `to_dict` gave; what is left out has its default.

        Raises:
            ConfigError: a key is unknown.
            ArgumentError: a value is out of range.
        """
        known = [one.name for one in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
                if name in CLIPPING_KINDS:
                    hint = f"clipping has the keys kind ({name}) and threshold"
                raise ConfigError(f"a configuration has no key {name[:100]!r}; {hint}")
        clipping = values.get("clipping")
        if clipping is None or isinstance(clipping, Clipping):
            return cls(**values)
        if not isinstance(clipping, Mapping) or clipping.keys() != {"kind", "threshold"}:
            raise ArgumentError("clipping", "an object with the keys kind and threshold", clipping)
        return cls(**{**values, "clipping": Clipping(**clipping)})


def _is_path(name: str) -> bool:
    """Returns whether the operating system can take a string for a path."""
    try:
        return len(os.fsencode(name)) > 0 and "\0" not in name
    except UnicodeEncodeError:
        return False


def _require_size(name: str, value: Any) -> None:
    require.positive_integer(name, value)
    require.that(value <= _LARGEST, name, f"at most {_LARGEST:,}", value)


def read_config(path: Path) -> dict[str, Any]:
    """Returns the values in the `config.json` of a run, or in a TOML file with the same keys.

    Args:
        path: a file, read as TOML if its name ends in `.toml` and as JSON otherwise; or a run directory.

    Raises:
        ConfigError: the file is not a JSON object or a TOML document, or has more than 16 MiB (TOML: 32 KiB).
        OSError: the file cannot be read, or is a pipe.
    """
    path = path / "config.json" if path.is_dir() else path
    is_toml = path.suffix.lower() == ".toml"
    most = _LARGEST_TOML if is_toml else _LARGEST_JSON
    try:
        content = read_regular(path, most)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        hint = "; use JSON, which may have 16 MiB, or name a folder or a pattern as the corpus" if is_toml else ""
        raise ConfigError(f"the configuration {path} must have at most {most:,} bytes{hint}") from error
    try:
        text = content.decode("utf-8-sig")
        values = tomllib.loads(text) if is_toml else parse_json(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {path} must be a text in UTF-8") from error
    except RecursionError:
        raise ConfigError(f"the configuration {path} is nested too deeply") from None
    except ValueError as error:
        reason = f"it is not valid TOML ({error})" if is_toml else str(error)
        raise ConfigError(f"the configuration {path} cannot be read: {shortened(reason)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the configuration {path} must hold a JSON object. Received: {type(values).__name__}")
    return values
