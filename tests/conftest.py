"""What every test may use. KERAS_SEQ_NO_SKIPS=1, as `.ci/run` sets it, turns each skipped test into a failure."""

import contextlib
import gc
import io
import os
from typing import NamedTuple

import hamlet
import pytest

from keras_seq.cli.main import main, parse

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process of pytest-xdist has one core, on which several threads of TensorFlow only hinder each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


class Answer(NamedTuple):
    """What a call of the program returned and printed."""

    returncode: int
    stdout: str
    stderr: str


def run_in_process(*arguments, cwd):
    """Runs `keras-seq` with these arguments inside this process; returns an `Answer`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(parse([str(argument) for argument in arguments]))
        except SystemExit as end:  # argparse ends the program after its own errors and after --help.
            code = end.code
    return Answer(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def run_cli():
    """`run_cli("sample", "--run=fox", cwd=folder)` runs the program without a new process."""
    return run_in_process


@pytest.fixture(scope="session")
def tiny_model():
    """`tiny_model(vocabulary, seed=1, **options)` returns a new `language_model` with peaked distributions."""
    return hamlet.tiny_model


@pytest.fixture(scope="session")
def small_tflite(tmp_path_factory):
    """`small_tflite(level="word", quantization="int8")` exports a small model once for the whole session."""
    made = {}

    def path_of(**options):
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = hamlet.export_small_tflite(tmp_path_factory.mktemp("tflite"), **options)
        return made[key]

    return path_of


def pytest_collection_finish():
    """Exempts the imported modules from garbage collection, which TensorFlow's converter starts at each export."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report):
    if report.skipped and os.environ.get("KERAS_SEQ_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
