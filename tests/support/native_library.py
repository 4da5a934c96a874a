"""The C library of export/native, driven through ctypes as an app would use it."""

import ctypes
import functools
import os
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_size_t,
    c_uint64,
)
from ctypes import c_void_p as c_pointer
from typing import NamedTuple

OK, BAD_ARGUMENT, BAD_TEXT, BAD_FILE, OUT_OF_MEMORY, IN_USE, FAILED = range(7)
# The sources that need no LiteRT, and two that some of them use.
WITHOUT_LITERT = ("bundle", "errors", "files", "json", "learned_file", "own_words", "random", "sha256")
WITHOUT_LITERT += ("vocabulary", "micro/threefry", "micro/tokens", "micro/words")
FINISH_REASONS = ("eos", "stop", "length", "stopped")


class _Error(Structure):
    _fields_ = [("text", c_char * 512)]


class Options(Structure):
    _fields_ = [
        ("max_tokens", c_int32),
        ("temperature", c_float),
        ("top_k", c_int32),
        ("top_p", c_float),
        ("min_p", c_float),
        ("seed", c_uint64),
        ("stops", POINTER(c_char_p)),
        ("stop_count", c_size_t),
    ]


class _Piece(Structure):
    _fields_ = [("text", c_pointer), ("size", c_size_t), ("token", c_int32), ("log_probability", c_float)]


class _Result(Structure):
    _fields_ = [
        ("finish", c_int),
        ("seed", c_uint64),
        ("tokens", c_int32),
        ("seconds", c_double),
        ("model_seconds", c_double),
    ]


class _Suggestion(Structure):
    _fields_ = [("text", c_char_p), ("insert", c_char_p), ("probability", c_double)]


class _LearnOptions(Structure):
    _fields_ = [("rate", c_float), ("by_line", c_bool)]


class _LearnReport(Structure):
    _fields_ = [
        ("tokens", c_uint64),
        ("nats_per_token", c_double),
        ("model_nats_per_token", c_double),
        ("weight", c_double),
    ]


_OnPiece = ctypes.CFUNCTYPE(c_bool, POINTER(_Piece), c_pointer)


class Piece(NamedTuple):
    text: str
    token: int
    log_probability: float


class Written(NamedTuple):
    pieces: list[Piece]
    finish_reason: str
    tokens: int
    seed: int

    @property
    def text(self):
        return "".join(piece.text for piece in self.pieces)


class LearnReport(NamedTuple):
    tokens: int
    nats_per_token: float
    model_nats_per_token: float
    weight: float


class NativeError(Exception):
    """A status that is not KS_OK, and its sentence."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


def status_of(call):
    """Returns the status with which a call of the library ends."""
    try:
        call()
    except NativeError as error:
        return error.status
    return OK


@functools.cache
def load_library(path):
    """Returns the shared library."""
    library = ctypes.CDLL(str(path))
    library.ks_version.restype = c_char_p
    library.ks_free.argtypes = [c_pointer]
    library.ks_free.restype = None
    for name in ("ks_vocabulary_size", "ks_unknown_id", "ks_eos_id"):
        getattr(library, name).argtypes = [c_pointer]
    model, error = c_pointer, POINTER(_Error)
    library.ks_open.argtypes = [c_char_p, POINTER(model), error]
    library.ks_open_memory.argtypes = [c_char_p, c_size_t, POINTER(model), error]
    library.ks_close.argtypes = [model]
    library.ks_encode.argtypes = [model, c_char_p, POINTER(POINTER(c_int32)), POINTER(c_size_t), error]
    library.ks_decode.argtypes = [model, POINTER(c_int32), c_size_t, POINTER(c_pointer), POINTER(c_size_t), error]
    library.ks_default_options.argtypes = [model, POINTER(Options), error]
    library.ks_write.argtypes = [model, c_char_p, POINTER(Options), _OnPiece, c_pointer, POINTER(_Result), error]
    library.ks_suggest.argtypes = [
        model,
        c_char_p,
        c_size_t,
        POINTER(POINTER(_Suggestion)),
        POINTER(c_size_t),
        error,
    ]
    library.ks_score.argtypes = [model, c_char_p, POINTER(POINTER(c_double)), POINTER(c_size_t), error]
    library.ks_has_learn.argtypes = [model]
    library.ks_has_learn.restype = c_bool
    library.ks_learned_tokens.argtypes = [model]
    library.ks_learned_tokens.restype = c_uint64
    library.ks_default_learn_options.argtypes = [model, POINTER(_LearnOptions), error]
    library.ks_learn.argtypes = [model, c_char_p, POINTER(_LearnOptions), POINTER(_LearnReport), error]
    library.ks_forget.argtypes = [model, error]
    library.ks_save_learned.argtypes = [model, c_char_p, error]
    library.ks_load_learned.argtypes = [model, c_char_p, error]
    library.ks_save_learned_memory.argtypes = [model, POINTER(c_pointer), POINTER(c_size_t), error]
    library.ks_load_learned_memory.argtypes = [model, c_char_p, c_size_t, error]
    return library


def _encoded(text):
    return text if isinstance(text, bytes) else text.encode()


class NativeModel:
    """A model opened by the library: from a path, or from bytes."""

    def __init__(self, library, source):
        self.library = library
        self.handle = c_pointer()
        error = _Error()
        if isinstance(source, bytes):
            status = library.ks_open_memory(source, len(source), byref(self.handle), byref(error))
        else:
            status = library.ks_open(os.fsencode(source), byref(self.handle), byref(error))
        self._check(status, error)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.close() == OK

    def close(self):
        return self.library.ks_close(self.handle)

    @staticmethod
    def _check(status, error):
        if status:
            raise NativeError(status, error.text.decode())

    def _call(self, name, *arguments):
        error = _Error()
        self._check(getattr(self.library, name)(self.handle, *arguments, byref(error)), error)

    def encode(self, text):
        ids, count = POINTER(c_int32)(), c_size_t()
        self._call("ks_encode", _encoded(text), byref(ids), byref(count))
        found = ids[: count.value]
        self.library.ks_free(ids)
        return found

    def decode(self, ids):
        text, size = c_pointer(), c_size_t()
        self._call("ks_decode", (c_int32 * len(ids))(*ids), len(ids), byref(text), byref(size))
        found = ctypes.string_at(text, size.value + 1)
        self.library.ks_free(text)
        assert found[-1] == 0
        return found[:-1].decode()

    def options(self, stop=(), **changed):
        """Returns the defaults of the file with some changed."""
        options = Options()
        self._call("ks_default_options", byref(options))
        options.stops = (c_char_p * len(stop))(*map(_encoded, stop))
        options.stop_count = len(stop)
        for name, value in changed.items():
            setattr(options, name, value % 2**64 if name == "seed" else value)
        return options

    def write(self, prompt="", on_piece=lambda piece: True, **options):
        """Returns what was written; `on_piece` returns whether to go on."""
        pieces, result = [], _Result()

        def take(piece, _):
            found = piece.contents
            text = ctypes.string_at(found.text, found.size + 1)
            assert text[-1] == 0
            pieces.append(Piece(text[:-1].decode(), found.token, found.log_probability))
            return bool(on_piece(pieces[-1]))

        given = self.options(**options)
        try:
            self._call("ks_write", _encoded(prompt), byref(given), _OnPiece(take), None, byref(result))
        except NativeError as error:
            error.pieces = pieces
            raise
        return Written(pieces, FINISH_REASONS[result.finish], result.tokens, result.seed)

    def suggest(self, text="", count=3):
        """Returns (text, insert, probability) of each suggestion."""
        suggestions, found = POINTER(_Suggestion)(), c_size_t()
        self._call("ks_suggest", _encoded(text), count, byref(suggestions), byref(found))
        result = [(one.text.decode(), one.insert.decode(), one.probability) for one in suggestions[: found.value]]
        self.library.ks_free(suggestions)
        return result

    def score(self, text):
        scores, count = POINTER(c_double)(), c_size_t()
        self._call("ks_score", _encoded(text), byref(scores), byref(count))
        found = scores[: count.value]
        self.library.ks_free(scores)
        return found

    def learn(self, text, **changed):
        """Learns with the defaults of the file, some of them changed; returns a `LearnReport`."""
        options, report = _LearnOptions(), _LearnReport()
        self._call("ks_default_learn_options", byref(options))
        for name, value in changed.items():
            setattr(options, name, value)
        self._call("ks_learn", _encoded(text), byref(options), byref(report))
        return LearnReport(*(getattr(report, name) for name in LearnReport._fields))

    @property
    def has_learn(self):
        return self.library.ks_has_learn(self.handle)

    @property
    def learned_tokens(self):
        return self.library.ks_learned_tokens(self.handle)

    def forget(self):
        self._call("ks_forget")

    def save_learned(self, path):
        self._call("ks_save_learned", os.fsencode(path))

    def load_learned(self, path):
        self._call("ks_load_learned", os.fsencode(path))

    def learned_bytes(self):
        """Returns the content of a learned file."""
        content, size = c_pointer(), c_size_t()
        self._call("ks_save_learned_memory", byref(content), byref(size))
        found = ctypes.string_at(content, size.value)
        self.library.ks_free(content)
        return found

    def load_learned_bytes(self, content):
        self._call("ks_load_learned_memory", content, len(content))
