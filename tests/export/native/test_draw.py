"""The integer draw in C, built without a library, against its definition."""

import ctypes
import json
import subprocess
from ctypes import POINTER, Structure, byref, c_int16, c_size_t, c_uint32, c_uint64

import integer_oracle as oracle
import paths
import pytest
from devices import need_program
from hypothesis import given
from hypothesis import strategies as st

VECTORS = json.loads(paths.VECTORS.read_text())
FOLDER = paths.REPOSITORY / "export/native/micro"
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-ffreestanding", "-Werror"]
IMPOSSIBLE = 2**64 - 1


class Settings(Structure):
    _fields_ = [("temperature", c_uint64), ("top_k", c_uint32), ("top_p", c_uint32), ("min_p", c_uint32)]


class Distribution(Structure):
    _fields_ = [("logit_step", c_uint64), ("total", c_uint64), ("largest", c_int16)]


@pytest.fixture(scope="module", params=["-O0", "-O2"])
def library(tmp_path_factory, request):
    """The functions of draw.c; what C does not define ends the process."""
    need_program("cc", "gcc")
    path = tmp_path_factory.mktemp("draw") / "draw.so"
    checks = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    command = ["cc", *WARNINGS, request.param, *checks, "-fPIC", "-shared", "-nostdlib"]
    subprocess.run([*command, FOLDER / "draw.c", "-o", path], check=True)
    found = ctypes.CDLL(str(path))
    logits = POINTER(c_int16)
    found.ks_micro_draw.argtypes = [logits, c_size_t, POINTER(Settings), c_uint64, c_uint32]
    found.ks_micro_draw.restype = c_uint32
    found.ks_micro_distribution_of.argtypes = [logits, c_size_t, c_uint64]
    found.ks_micro_distribution_of.restype = Distribution
    for name, kind in (("weight", c_int16), ("cost", c_int16), ("cost_of_any", c_uint64)):
        function = getattr(found, f"ks_micro_{name}")
        function.argtypes, function.restype = [POINTER(Distribution), kind], c_uint64
    return found


def draws(library, logits, step, uniforms, integers):
    array = (c_int16 * len(logits))(*logits)
    return [library.ks_micro_draw(array, len(array), byref(Settings(*integers)), step, number) for number in uniforms]


def costs(library, logits, step, group=()):
    found = byref(library.ks_micro_distribution_of((c_int16 * len(logits))(*logits), len(logits), step))
    each = [library.ks_micro_cost(found, logit) for logit in logits]
    weights = sum(library.ks_micro_weight(found, logits[token]) for token in group)
    together = library.ks_micro_cost_of_any(found, weights)
    return [None if cost == IMPOSSIBLE else cost for cost in each], None if together == IMPOSSIBLE else together


def test_draws_are_those_of_the_vectors(library):
    for case in VECTORS["integer_draws"]:
        uniforms, tokens = zip(*case["draws"], strict=True)
        logits, step = oracle.logits_of(case), case["logit_step"]
        assert draws(library, logits, step, uniforms, case["integers"]) == list(tokens)


def test_costs_are_those_of_the_vectors(library):
    for case in VECTORS["integer_costs"]:
        logits, step = oracle.logits_of(case), case["logit_step"]
        each, _ = costs(library, logits, step)
        assert [[token, each[token]] for token, _ in case["costs"]] == case["costs"]
        for group, cost in case["groups"]:
            assert costs(library, logits, step, group)[1] == cost


LOGITS = st.lists(st.integers(-(2**15), 2**15 - 1) | st.integers(-40, 40), min_size=1, max_size=40).filter(
    lambda logits: max(logits) > oracle.FORBIDDEN
)
STEPS = st.floats(2**-24, 0.5, width=32).map(oracle.logit_step)
TOP = 2**24
INTEGERS = st.tuples(
    st.sampled_from([0, 1, TOP, 10**6 * TOP]) | st.integers(0, 5 * TOP),
    st.integers(0, 45),
    st.just(TOP) | st.integers(0, TOP),
    st.just(0) | st.integers(0, TOP),
)
UNIFORMS = st.lists(st.integers(0, TOP - 1) | st.just(TOP - 1), min_size=1, max_size=4)


@given(logits=LOGITS, step=STEPS, integers=INTEGERS, uniforms=UNIFORMS)
def test_draws_are_those_of_the_definition(library, logits, step, integers, uniforms):
    assert draws(library, logits, step, uniforms, integers) == oracle.draws(logits, step, uniforms, integers)


@given(logits=LOGITS, step=STEPS, group=st.sets(st.integers(0, 39)))
def test_costs_are_those_of_the_definition(library, logits, step, group):
    group = [token for token in group if token < len(logits)]
    assert costs(library, logits, step, group) == oracle.costs(logits, step, group)


def test_nothing_is_drawn_where_every_token_is_forbidden(library):
    forbidden = [oracle.FORBIDDEN] * 3
    for integers in ((TOP, 0, TOP, 0), (0, 0, TOP, 0), (TOP, 2, TOP // 2, 9)):
        assert draws(library, forbidden, 2**30, [0, TOP - 1], integers) == [3, 3]
    assert costs(library, forbidden, 2**30, [0, 2]) == ([None] * 3, None)


PROGRAM = """
#include "draw.h"
extern const ks_micro_settings settings[];
const ks_micro_settings settings[] = {KS_MICRO_SETTINGS(0.8, 40, 0.95, 0.02), KS_MICRO_SETTINGS(1, 0, 1, 0),
                                      KS_MICRO_SETTINGS(1e6, 0, 1e-7, 1.0), KS_MICRO_SETTINGS(0, 0, 1.0, 0.0)};
"""


def test_the_compiler_makes_integers_of_settings(tmp_path):
    need_program("cc", "gcc")
    (tmp_path / "settings.c").write_text(PROGRAM)
    command = ["cc", *WARNINGS, "-I", FOLDER, "-fPIC", "-shared", "-nostdlib", tmp_path / "settings.c"]
    subprocess.run([*command, "-o", tmp_path / "settings.so"], check=True)
    found = (Settings * 4).in_dll(ctypes.CDLL(str(tmp_path / "settings.so")), "settings")
    values = [[one.temperature, one.top_k, one.top_p, one.min_p] for one in found]
    assert values == [
        oracle.integers_of(0.8, 40, 0.95, 0.02),
        oracle.integers_of(),
        oracle.integers_of(1e6, 0, 1e-7, 1.0),
        oracle.integers_of(0),
    ]
