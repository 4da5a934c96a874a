"""The C header with a model for the decoder in export/native/micro/: numbers, vocabulary and settings as constants."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.integer_sampling import FORBIDDEN, IntegerSettings, add_bias, logit_step
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.version import __version__
from keras_seq_export.errors import ExportError
from keras_seq_export.micro.memory import Memory
from keras_seq_export.micro.program import Kind, Operator, View
from keras_seq_export.micro.sigmoid_table import sigmoid_table

FORMAT: Final = 2  # KS_MICRO_FORMAT of keras_seq_micro.h
MOST_TOKENS: Final = 2**16  # The decoder stores ids in 16 bits.
_NONE: Final = 2**32 - 1
_NEVER: Final = -(2**31)
_LEVELS: Final = {"char": 0, "word": 1, "whitespace": 2}
_A_CONSTANT, _B_CONSTANT, _A_SINGLE, _B_SINGLE, _RELU = (1 << bit for bit in range(5))
# Sizes of suggest.c.
_SEARCH_STEPS: Final = 64  # KS_MICRO_SEARCH_STEPS
_NODE: Final = 192  # bytes of a node of a search, at most
_ROOM: Final = 132  # bytes of the text of a suggestion
_SUGGESTIONS: Final = 3  # for which the header has the size of the workspace


class Header(NamedTuple):
    """A header and what a device needs for it.

    Attributes:
        text: the header.
        flash: bytes of the model's constants.
        memory: bytes of the decoder's memory.
    """

    text: str
    flash: int
    memory: int


def require_few_tokens(vocabulary: Vocabulary | None) -> None:
    """Requires the ids of a vocabulary to fit the decoder.

    Raises:
        ExportError: the vocabulary is too large.
    """
    if vocabulary is not None and len(vocabulary) > MOST_TOKENS:
        raise ExportError(f"the C decoder takes at most {MOST_TOKENS:,} tokens. Received: {len(vocabulary):,}")


def header_of(
    memory: Memory, vocabulary: Vocabulary | None, sampling: SamplingSettings, name: str, description: str = ""
) -> Header:
    """Returns the header of a program.

    Args:
        memory: the program and its memory.
        vocabulary: the vocabulary of the model; None for a model that is not of text.
        sampling: the settings that the header defines as defaults; `bias` and `allow_unk` are part of the model.
        name: name of the model in C, from `names.c_name`.
        description: a line about the model.

    Raises:
        ExportError: the vocabulary is too large.
        ArgumentError: the settings have a repetition penalty.
    """
    require_few_tokens(vocabulary)
    model = _Model(memory)
    words = _Words.of(vocabulary, sampling, memory.program.output_scale)
    step = logit_step(memory.program.output_scale) if memory.program.tokens else 0
    scalars = [FORMAT, *model.counts(), *model.places()]
    sizes = _checksum([_numbers(scalars), np.array([step], "<u8").tobytes(), _numbers(words.counts())])
    checksum = _checksum(_hashed(model, words), sizes)
    lines = [
        f"/* {_comment(description or name)}: a model for the decoder in export/native/micro/ of keras_seq {__version__}.",
        " * Include it in one file. */",
        f"#ifndef {name.upper()}_H",
        f"#define {name.upper()}_H",
        "",
        '#include "keras_seq_micro.h"',
        "",
        *_definitions(name.upper(), memory, vocabulary, sampling),
        "",
        *model.arrays(name),
        *words.arrays(name),
        f"static const ks_micro_model {name} = {{",
        f"    {FORMAT}u, 0x{sizes:08X}u, 0x{checksum:08X}u,",
        "    " + ", ".join(f"{name}_{part}" if count else "NULL" for part, count in model.parts()) + ",",
        "    " + ", ".join(f"{value}u" for value in scalars[1:]) + ",",
        f"    UINT64_C({step}),",
        f"    {words.initializer(name)}}};",
        "",
        "#endif",
        "",
    ]
    return Header("\n".join(lines), model.bytes() + words.bytes(), 2 * memory.size)


def _comment(text: str) -> str:
    """Returns a text that may stand in a comment in C."""
    line = " ".join(text.encode("ascii", "replace").decode().split())
    return line.replace("*/", "* /").replace("/*", "/ *")


class _Model:
    """The constants of a program, and its operators with offsets into them."""

    def __init__(self, memory: Memory):
        self.memory = memory
        self.weights = _Constants(np.dtype(np.int8))
        self.biases = _Constants(np.dtype(np.int32))
        self.constants = _Constants(np.dtype(np.int16))
        program = memory.program
        self.operators = [self._operator(one) for one in program.operators]
        self.states = [
            (memory.offset(s.before), s.before.size, self.constants.add(s.first) if s.first.any() else _NONE)
            for s in program.states
        ]
        needs_sigmoid = any(one.kind in (Kind.LOGISTIC, Kind.TANH) for one in program.operators)
        self.sigmoid = sigmoid_table() if needs_sigmoid else np.zeros(0, np.uint16)

    def _operator(self, one: Operator) -> tuple[int, ...]:
        """Returns the fields of ks_micro_operator."""
        flags, places = _RELU * one.is_relu, [one.start if one.kind == Kind.LOOKUP else 0, 0]
        for number, source in enumerate(one.sources):
            is_constant = not isinstance(source, View)
            places[number] = self.memory.offset(source) if isinstance(source, View) else self.constants.add(source)
            flags |= (_A_CONSTANT, _B_CONSTANT)[number] * is_constant
            flags |= (_A_SINGLE, _B_SINGLE)[number] * (source.size == 1 and one.is_elementwise and one.out.size > 1)
        weights = 0 if one.weights is None else self.weights.add(one.weights)
        biases = 0 if one.biases is None else self.biases.add(one.biases)
        if one.kind == Kind.NGRAM and one.biases is not None:
            places[1] = len(one.biases) - 2  # tokens
        size = 0 if one.weights is None else one.weights.shape[1]
        out = self.memory.offset(one.out)
        return (one.kind, one.shift, flags, one.factor, out, one.out.size, *places, size, weights, biases)

    def parts(self) -> list[tuple[str, int]]:
        """Returns the arrays in the order of ks_micro_model, with their counts."""
        return [
            ("weights", self.weights.count),
            ("biases", self.biases.count),
            ("constants", self.constants.count),
            ("sigmoid", len(self.sigmoid)),
            ("operators", len(self.operators)),
            ("states", len(self.states)),
        ]

    def counts(self) -> list[int]:
        return [count for _, count in self.parts()]

    def places(self) -> list[int]:
        """Returns the numbers of ks_micro_model after the counts, up to the logit step."""
        program, offset = self.memory.program, self.memory.offset
        frame = (0, 0) if program.frame is None else (offset(program.frame), program.frame.size)
        states = sum(state.before.size for state in program.states)
        return [self.memory.size, states, program.tokens, *frame, offset(program.output), program.output.size]

    def arrays(self, name: str) -> list[str]:
        operators = [f"{{{', '.join(map(str, one))}}}" for one in self.operators]
        states = [f"{{{', '.join(f'{number}u' for number in one)}}}" for one in self.states]
        return [
            *_array("int8_t", f"{name}_weights", self.weights.numbers()),
            *_array("int32_t", f"{name}_biases", self.biases.numbers()),
            *_array("int16_t", f"{name}_constants", self.constants.numbers()),
            *_array("uint16_t", f"{name}_sigmoid", self.sigmoid.tolist()),
            *_array("ks_micro_operator", f"{name}_operators", operators),
            *_array("ks_micro_state", f"{name}_states", states),
        ]

    def bytes(self) -> int:
        arrays = sum(one.count * one.dtype.itemsize for one in (self.weights, self.biases, self.constants))
        return arrays + self.sigmoid.nbytes + 36 * len(self.operators) + 12 * len(self.states)


class _Constants:
    """Arrays one after the other; equal ones once."""

    def __init__(self, dtype: np.dtype):
        self.dtype, self.count = dtype, 0
        self._starts: dict[bytes, int] = {}
        self._arrays: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> int:
        """Returns the offset of an array."""
        values = np.ascontiguousarray(values, self.dtype).reshape(-1)
        content = values.tobytes()
        if content not in self._starts:
            self._starts[content] = self.count
            self._arrays.append(values)
            self.count += values.size
        return self._starts[content]

    def numbers(self) -> list[int]:
        return [] if not self._arrays else np.concatenate(self._arrays).tolist()


class _Words(NamedTuple):
    """A vocabulary as ks_micro_vocabulary has it.

    Attributes:
        texts: the UTF-8 of each token, at the level whitespace after a space.
        ordered: the ids of the tokens that a text can have, ordered by their bytes.
        biases: ids and what is added to their logits in a draw.
        level: a `ks_level`.
        reserved: the ids of `<pad>`, `<s>`, `<eos>` and the unknown token.
    """

    texts: list[bytes]
    ordered: list[int]
    biases: list[tuple[int, int]]
    level: int
    reserved: list[int]

    @classmethod
    def of(cls, vocabulary: Vocabulary | None, sampling: SamplingSettings, scale: float) -> "_Words":
        if vocabulary is None:
            return cls([], [], [], 0, [_NONE] * 4)
        space = b" " if vocabulary.level == "whitespace" else b""
        texts = [space + token.encode() for token in vocabulary.tokens]
        ordered = sorted(vocabulary.text_ids.tolist(), key=lambda index: texts[index])
        bias = logit_bias(vocabulary, sampling)
        units = _units(bias, scale)
        biases = [(index, int(units[index])) for index in np.flatnonzero(bias).tolist()]
        unknown = _NONE if vocabulary.unk_id is None else vocabulary.unk_id
        reserved = [vocabulary.pad_id, vocabulary.start_id, vocabulary.eos_id, unknown]
        return cls(texts, ordered, biases, _LEVELS[vocabulary.level], reserved)

    def starts(self) -> list[int]:
        return np.cumsum([0, *map(len, self.texts)]).tolist() if self.texts else []

    def counts(self) -> list[int]:
        """Returns the numbers of ks_micro_vocabulary."""
        texts_size = sum(map(len, self.texts))
        return [len(self.texts), len(self.ordered), len(self.biases), texts_size, self.level, *self.reserved]

    def arrays(self, name: str) -> list[str]:
        biases = [f"{{{index}u, {'KS_MICRO_NEVER' if units == _NEVER else units}}}" for index, units in self.biases]
        return [
            *_array("char", f"{name}_texts", [f"'\\x{value:02x}'" for value in b"".join(self.texts)]),
            *_array("uint32_t", f"{name}_starts", self.starts()),
            *_array("uint16_t", f"{name}_ordered", self.ordered),
            *_array("ks_micro_bias", f"{name}_draw_biases", biases),
        ]

    def initializer(self, name: str) -> str:
        parts = (("texts", self.texts), ("starts", self.texts), ("ordered", self.ordered), ("draw_biases", self.biases))
        pointers = [f"{name}_{part}" if values else "NULL" for part, values in parts]
        return "{" + ", ".join([*pointers, *(f"{value}u" for value in self.counts())]) + "}"

    def bytes(self) -> int:
        return sum(map(len, self.texts)) + 4 * len(self.starts()) + 2 * len(self.ordered) + 8 * len(self.biases)


def _units(bias: np.ndarray, scale: float) -> np.ndarray:
    """Returns what a bias adds to integer logits; beyond 65,534 it makes no difference."""
    low, high = (
        add_bias(np.full(len(bias), value, np.int16), bias, scale).astype(np.int64) for value in (-32767, 32767)
    )
    return np.where(low == FORBIDDEN, _NEVER, low + 32767 + high - 32767)


def _definitions(name: str, memory: Memory, vocabulary: Vocabulary | None, sampling: SamplingSettings) -> list[str]:
    program = memory.program
    found = [f"#define {name}_MEMORY {2 * memory.size} /* bytes of the decoder's memory */"]
    if vocabulary is None:
        scales = (("INPUT", program.input_scale), ("OUTPUT", program.output_scale))
        return found + [
            f"#define {name}_{which}_SCALE {scale!r} /* value of the integer 1 */" for which, scale in scales if scale
        ]
    states = sum(state.before.size for state in program.states)
    by_character = vocabulary.level == "char"
    bytes_of_states = 2 * states * (_SEARCH_STEPS + 2 if by_character else 1)
    nodes = (_SEARCH_STEPS + 1) * _NODE * by_character
    workspace = bytes_of_states + nodes + len(vocabulary) + _ROOM * _SUGGESTIONS + 16
    settings = IntegerSettings.of(sampling)
    top_k = settings.top_k if settings.top_k < len(vocabulary) else 0  # All tokens are kept; C has 32 bits.
    values = f"{{UINT64_C({settings.temperature}), {top_k}u, {settings.top_p}u, {settings.min_p}u}}"
    return [
        *found,
        f"#define {name}_SUGGEST {-(-workspace // 8) * 8} /* bytes of workspace that are enough for three suggestions */",
        f"#define {name}_SETTINGS {values} /* of the draw, as exported */",
        f"#define {name}_OUTPUT_SCALE {program.output_scale!r} /* value of the integer 1 of a logit */",
    ]


def _array(kind: str, name: str, values: Sequence[Any]) -> list[str]:
    """Returns an array of constants; none if it is empty."""
    if not values:
        return []
    lines, line = [], "   "
    for value in values:
        text = f" {value},"
        if len(line) + len(text) > 120:
            lines.append(line)
            line = "   "
        line += text
    return [f"static const {kind} {name}[{len(values)}] = {{", *lines, line, "};", ""]


def _numbers(values: Iterable[int]) -> bytes:
    return np.array([value & _NONE for value in values], "<u4").tobytes()


def _hashed(model: _Model, words: _Words) -> Iterable[bytes]:
    """Yields what the checksum of the arrays covers, in the order of `checksum_of` in model.c."""
    for one in model.operators:
        yield _numbers([*one[:3], one[3] & 0xFFFF, *one[4:]])
    for state in model.states:
        yield _numbers(state)
    yield np.array(model.weights.numbers(), np.int8).tobytes()
    yield np.array(model.biases.numbers(), "<i4").tobytes()
    yield np.array(model.constants.numbers(), "<i2").tobytes()
    yield model.sigmoid.astype("<u2").tobytes()
    yield _numbers(words.starts())
    yield b"".join(words.texts)
    yield np.array(words.ordered, "<u2").tobytes()
    yield _numbers([value for pair in words.biases for value in pair])


def _checksum(parts: Iterable[bytes], found: int = 2166136261) -> int:
    """Returns FNV-1a with 32 bits; goes on from an earlier one."""
    for part in parts:
        for byte in part:
            found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found
