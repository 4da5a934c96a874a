"""The tokens of `keras.layers.StringLookup` and `keras.layers.TextVectorization`, where their ids can be reproduced."""

from collections.abc import Mapping
from typing import Any

from keras_seq.data.tokens import KERAS_UNK, PAD, AnyLevel, level_of
from keras_seq.errors import ArgumentError

_LEVELS: dict[Any, AnyLevel] = {"whitespace": "whitespace", "character": "char"}


def tokens_of(layer: Any, names: Mapping[str, str | None]) -> list[str]:
    """Returns the tokens of a layer in the order of their ids, the reserved ones with the names that keras_seq gives them.

    Args:
        layer: an adapted StringLookup or TextVectorization.
        names: what the layer calls the reserved tokens `<s>` and `<eos>`; None: it has none, or gives them these names.

    Raises:
        ArgumentError: it is another layer, its ids cannot be reproduced, or it lacks a token of `names`.
    """
    # By name: vocabularies are also used where Keras is not installed.
    classes = {base.__name__ for base in type(layer).__mro__ if base.__module__.startswith("keras.")}
    if "TextVectorization" in classes:
        level: AnyLevel | None = _level_of(layer)
        special: dict[str | None, str] = {"": PAD, KERAS_UNK: KERAS_UNK}
    elif "StringLookup" in classes:
        level, special = None, _special_tokens(layer)
    else:
        raise ArgumentError("layer", "a keras.layers.StringLookup or keras.layers.TextVectorization", layer)
    config = layer.get_config()
    _require(layer, config["output_mode"] == "int", "output_mode", config["output_mode"], "`int`, which gives ids")
    _require(layer, config["encoding"].lower() in ("utf-8", "utf8"), "encoding", config["encoding"], "UTF-8")
    stored = [str(token) for token in layer.get_vocabulary()]
    # The layer's own padding and unknown tokens come first; a word of the texts may be spelled like one.
    head = [special[token] for token in stored[: len(special)]]
    renamed = {token: name for name, token in names.items() if token is not None}
    for argument, token in zip(("start", "eos"), names.values(), strict=True):
        if token is not None and token not in stored[len(head) :]:
            raise ArgumentError(argument, "a token of the layer, as its `get_vocabulary()` lists it", token)
    tokens = head + [renamed.get(token, token) for token in stored[len(head) :]]
    if len(tokens) == len(head):
        raise ArgumentError("layer", "adapted: call `layer.adapt(texts)` first, or set its vocabulary", layer)
    if level not in (None, level_of(tokens)):
        raise ArgumentError(
            "layer",
            "one that splits texts into characters, because all its tokens are single characters; or give one of its words "
            "two characters, which shows that it splits at white space",
            layer,
        )
    return tokens


def _level_of(layer: Any) -> AnyLevel:
    """Returns how a TextVectorization splits texts, after the check that texts can be split in the same way."""
    config = layer.get_config()
    same = "keras.layers.TextVectorization(standardize=None, split={!r}, vocabulary=layer.get_vocabulary({}))"
    line = same.format(config["split"], "include_special_tokens=False")
    advice = f"None: standardize the texts before they are encoded, and give `{line}`, which has the same ids"
    _require(layer, config["standardize"] is None, "standardize", config["standardize"], advice)
    _require(layer, config["ngrams"] is None, "ngrams", config["ngrams"], "None: a text is not made of its ngrams")
    length = config["output_sequence_length"]
    _require(layer, length is None, "output_sequence_length", length, "None: a text is encoded whole")
    split = config["split"]
    _require(
        layer,
        isinstance(split, str) and split in _LEVELS,
        "split",
        split,
        '"whitespace" or "character"; give `Vocabulary.from_tokens` the words if texts are split at white space',
    )
    return _LEVELS[split]


def _special_tokens(layer: Any) -> dict[str | None, str]:
    """Returns our names for the padding and the unknown token of a StringLookup, in the order of their ids."""
    config = layer.get_config()
    unknown_count = config["num_oov_indices"]
    _require(layer, not config["invert"], "invert", config["invert"], "False: give the layer that maps tokens to ids")
    advice = "0 or 1: which of several ids an unknown token has depends on a hash"
    _require(layer, unknown_count <= 1, "num_oov_indices", unknown_count, advice)
    special: dict[str | None, str] = {}
    if config["mask_token"] is not None:
        special[config["mask_token"]] = PAD
    if unknown_count:
        special[config["oov_token"]] = KERAS_UNK
    return special


def _require(layer: Any, holds: bool, setting: str, value: Any, expected: str) -> None:
    if not holds:
        name = getattr(value, "__name__", None) or value
        raise ArgumentError(
            "layer", f"a layer with `{setting}` {expected}", f"{type(layer).__name__}({setting}={name!r})"
        )
